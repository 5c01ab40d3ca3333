//! The authorities of a cluster, one after another.
//!
//! An authority is replaced long before it ends, and in steps, so that nobody meets a certificate whose authority it has
//! not been told of:
//!
//! 1. **announced**: after two thirds of its life the next one is made and joins the bundle that agents trust. It signs
//!    nothing.
//! 2. **scheduled**: once that bundle is published, the time from which the next one signs is written down. It is so far
//!    ahead that everybody has taken the bundle up by then.
//! 3. **promoted**: at that time the next one signs, and the key of the one before is thrown away.
//! 4. **forgotten**: the one before leaves the bundle when it ends, and so has everything that it ever signed.
//!
//! All of this stands in the Secret. What is to be done follows from that and the time, whichever replica looks, and
//! however often it was restarted.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;

use super::Pace;
use crate::pki::{Authority, PkiError, certificates};

/// Names in the Secret: who signs, those of type `kubernetes.io/tls`.
const CURRENT: (&str, &str) = ("tls.crt", "tls.key");
/// Who will sign.
const NEXT: (&str, &str) = ("next.crt", "next.key");
/// From when on. RFC 3339.
const NEXT_FROM: &str = "next.from";
/// Who has signed. Certificates, PEM.
const RETIRED: &str = "retired.crt";

/// All authorities that count.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) current: Authority,
    next: Option<Next>,
    /// Each with its end, oldest first.
    retired: Vec<(String, Timestamp)>,
}

/// One that will sign.
#[derive(Clone, Debug)]
struct Next {
    authority: Authority,
    /// Absent until the bundle with it was published.
    from: Option<Timestamp>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Announce,
    Schedule(Timestamp),
    Promote,
    Forget,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Announce => f.write_str("the next authority is made and announced"),
            Self::Schedule(from) => write!(f, "the next authority signs from {from} on"),
            Self::Promote => f.write_str("the next authority signs from now on"),
            Self::Forget => f.write_str("an authority that has ended is trusted no more"),
        }
    }
}

impl Ring {
    /// The first one.
    ///
    /// Errors: [`PkiError`].
    pub(super) fn create(now: Timestamp, life: Duration) -> Result<Self, PkiError> {
        let current = Authority::create_at(now, life)?;
        Ok(Self { current, next: None, retired: Vec::new() })
    }

    /// What is to be done now, if anything. `published`: agents can read [`Self::bundle`] as it is.
    pub(super) fn step(&self, now: Timestamp, published: bool, pace: &Pace) -> Option<Step> {
        if self.retired.iter().any(|(_, end)| *end <= now) {
            return Some(Step::Forget);
        }
        let Some(next) = &self.next else {
            return (due(&self.current, pace) <= now).then_some(Step::Announce);
        };
        if !published {
            return None;
        }
        // one that has ended serves nobody, so there is nothing to wait for
        let over = self.current.valid().1 <= now;
        match next.from {
            Some(from) if from <= now => Some(Step::Promote),
            _ if over => Some(Step::Promote),
            Some(_) => None,
            None => Some(Step::Schedule(after(now, pace.announce))),
        }
    }

    /// The authorities after that step.
    ///
    /// Errors: [`PkiError`], where one has to be made.
    pub(super) fn after(self, step: Step, now: Timestamp, pace: &Pace) -> Result<Self, PkiError> {
        let Self { current, next, mut retired } = self;
        Ok(match (step, next) {
            (Step::Announce, _) => {
                let authority = Authority::create_at(now, pace.authority)?;
                Self { current, next: Some(Next { authority, from: None }), retired }
            }
            (Step::Schedule(from), Some(next)) => {
                let next = Next { from: Some(from), ..next };
                Self { current, next: Some(next), retired }
            }
            (Step::Promote, Some(next)) => {
                retired.push((current.certificate().to_owned(), current.valid().1));
                Self { current: next.authority, next: None, retired }
            }
            (Step::Forget, next) => {
                retired.retain(|(_, end)| *end > now);
                Self { current, next, retired }
            }
            // there is none to do it with
            (Step::Schedule(_) | Step::Promote, None) => Self { current, next: None, retired },
        })
    }

    /// Certificates of all that may have signed something, PEM: what to trust.
    pub(super) fn bundle(&self) -> String {
        let next = self.next.iter().map(|n| n.authority.certificate());
        let retired = self.retired.iter().map(|(text, _)| &**text);
        join(std::iter::once(self.current.certificate()).chain(next).chain(retired))
    }

    /// As the Secret has it.
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let mut out = BTreeMap::new();
        let mut put = |name: &str, text: &str| {
            out.insert(name.to_owned(), ByteString(text.as_bytes().to_vec()));
        };
        put(CURRENT.0, self.current.certificate());
        put(CURRENT.1, self.current.key());
        if let Some(next) = &self.next {
            put(NEXT.0, next.authority.certificate());
            put(NEXT.1, next.authority.key());
            if let Some(from) = next.from {
                put(NEXT_FROM, &from.to_string());
            }
        }
        if !self.retired.is_empty() {
            put(RETIRED, &join(self.retired.iter().map(|(text, _)| &**text)));
        }
        out
    }

    /// Whether a name in the Secret is one of ours.
    pub(super) fn names(name: &str) -> bool {
        [CURRENT.0, CURRENT.1, NEXT.0, NEXT.1, NEXT_FROM, RETIRED].contains(&name)
    }

    /// Reads what [`Self::data`] wrote. Of the rest beside the one that signs, what cannot be read is as if it were not
    /// there, and named.
    ///
    /// Errors: the name of what has to be there and is not.
    pub(super) fn read(
        data: &BTreeMap<String, ByteString>,
    ) -> Result<(Self, Vec<&'static str>), &'static str> {
        let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
        let authority = |(cert, key): (&'static str, &'static str)| {
            let (cert, key) = (text(cert).ok_or(cert)?, text(key).ok_or(key)?);
            Authority::from_pem(cert, key).map_err(|_| CURRENT.0)
        };
        let current = authority(CURRENT)?;
        let mut bad = Vec::new();
        let from = match data.get(NEXT_FROM) {
            None => None,
            Some(_) => {
                let from = text(NEXT_FROM).and_then(|t| t.parse().ok());
                bad.extend(from.is_none().then_some(NEXT_FROM));
                from
            }
        };
        let next = if data.contains_key(NEXT.0) {
            let read = authority(NEXT).ok();
            bad.extend(read.is_none().then_some(NEXT.0));
            read.map(|authority| Next { authority, from })
        } else {
            None
        };
        let retired = match data.get(RETIRED) {
            None => Vec::new(),
            Some(_) => {
                let read = text(RETIRED).and_then(|t| certificates(&t));
                bad.extend(read.is_none().then_some(RETIRED));
                read.unwrap_or_default()
            }
        };
        Ok((Self { current, next, retired }, bad))
    }
}

/// When the one after it is to be made. One that was to last longer than is wanted now counts as if it were as wanted.
fn due(authority: &Authority, pace: &Pace) -> Timestamp {
    let (from, to) = authority.valid();
    let life = Duration::try_from(from.duration_until(to)).unwrap_or_default();
    after(from, life.min(pace.authority) * 2 / 3)
}

fn after(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    // fractions of seconds are for nobody to read
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn join<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for text in texts {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + days * 24 * 3600).unwrap()
    }

    /// Until nothing is to be done, with every bundle published.
    fn settle(mut ring: Ring, now: Timestamp, pace: &Pace) -> (Ring, Vec<Step>) {
        let mut steps = Vec::new();
        while let Some(step) = ring.step(now, true, pace) {
            ring = ring.after(step, now, pace).unwrap();
            // what is written down is what is known
            ring = Ring::read(&ring.data()).unwrap().0;
            steps.push(step);
        }
        (ring, steps)
    }

    #[test]
    fn the_steps_of_a_life() {
        let pace = Pace::of(DAY * 300);
        let ring = Ring::create(at(0), pace.authority).unwrap();
        let first = ring.current.certificate().to_owned();
        let (ring, steps) = settle(ring, at(198), &pace);
        assert_eq!((steps, ring.bundle()), (vec![], first.clone()));
        // made, but not scheduled before the bundle is published, however long that takes
        let step = ring.step(at(199), true, &pace).unwrap();
        assert_eq!(step, Step::Announce);
        let ring = ring.after(step, at(199), &pace).unwrap();
        assert_eq!(ring.step(at(199), false, &pace), None);
        assert_eq!(ring.step(at(299), false, &pace), None);
        let (ring, steps) = settle(ring, at(210), &pace);
        assert_eq!(steps, [Step::Schedule(at(240))]);
        let both = ring.bundle();
        assert_eq!(certificates(&both).unwrap().len(), 2);
        assert!(both.starts_with(&first));
        assert_eq!(settle(ring.clone(), at(239), &pace).1, []);
        let (ring, steps) = settle(ring, at(240), &pace);
        assert_eq!(steps, [Step::Promote]);
        let second = ring.current.certificate().to_owned();
        assert_eq!(ring.bundle(), join([&*second, &*first].into_iter()));
        // of the one before no key is left
        assert_eq!(ring.data().keys().collect::<Vec<_>>(), [RETIRED, CURRENT.0, CURRENT.1]);
        assert_eq!(settle(ring.clone(), at(299), &pace).1, []);
        let (ring, steps) = settle(ring, at(300), &pace);
        assert_eq!((steps, ring.bundle()), (vec![Step::Forget], second));
        assert_eq!(settle(ring.clone(), at(397), &pace).1, []);
        // and so on
        let (_, steps) = settle(ring, at(398), &pace);
        assert_eq!(steps, [Step::Announce, Step::Schedule(at(428))]);
    }

    #[test]
    fn one_that_has_ended_is_replaced_at_once() {
        let pace = Pace::of(DAY * 300);
        let ring = Ring::create(at(0), pace.authority).unwrap();
        let (ring, steps) = settle(ring, at(1000), &pace);
        assert_eq!(steps.first(), Some(&Step::Announce));
        assert_eq!(steps.last(), Some(&Step::Forget));
        assert!(steps.contains(&Step::Promote));
        assert_eq!(certificates(&ring.bundle()).unwrap().len(), 1);
        assert!(ring.current.valid().1 > at(1000));
    }

    #[test]
    fn a_shorter_life_than_before_counts_for_the_one_that_is_there() {
        let ring = Ring::create(at(0), DAY * 3650).unwrap();
        let pace = Pace::of(DAY * 90);
        assert_eq!(ring.step(at(58), true, &pace), None);
        assert_eq!(ring.step(at(59), true, &pace), Some(Step::Announce));
        // two of them may then be retired at once
        let mut ring = ring;
        for day in 0..149 {
            ring = settle(ring, at(day), &pace).0;
        }
        assert_eq!(certificates(&ring.bundle()).unwrap().len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let pace = Pace::of(DAY * 300);
        let ring = Ring::create(at(0), pace.authority).unwrap();
        let (ring, _) = settle(ring, at(200), &pace);
        let whole = ring.data();
        let with = |name: &str, text: Option<&str>| {
            let mut data = whole.clone();
            match text {
                Some(text) => data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec())),
                None => data.remove(name),
            };
            Ring::read(&data).map(|(ring, bad)| (certificates(&ring.bundle()).unwrap().len(), bad))
        };
        assert_eq!(with("other", Some("whatever")), Ok((2, vec![])));
        assert_eq!(with(CURRENT.0, None), Err(CURRENT.0));
        assert_eq!(with(CURRENT.1, None), Err(CURRENT.1));
        assert_eq!(with(CURRENT.1, Some("no key")), Err(CURRENT.0));
        assert_eq!(with(NEXT.0, Some("no certificate")), Ok((1, vec![NEXT.0])));
        assert_eq!(with(NEXT.1, None), Ok((1, vec![NEXT.0])));
        assert_eq!(with(NEXT_FROM, Some("soon")), Ok((2, vec![NEXT_FROM])));
        assert_eq!(with(RETIRED, Some("nobody")), Ok((2, vec![RETIRED])));
    }
}
