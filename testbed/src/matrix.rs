//! Who reaches whom: what policies say, what probes see, and the two side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weir_policy::eval::{self, L4};
use weir_policy::world::World;

use crate::bed::Testbed;
use crate::error::{Error, Result};
use crate::host::HostName;
use crate::interrupt;
use crate::probe::{Budget, Outcome, Request, Service};

/// One connection to try: who, to whom, on what, in which family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    pub from: HostName,
    pub to: HostName,
    pub service: Service,
    pub v6: bool,
}

impl Cell {
    /// One over IPv4.
    pub fn v4(from: &str, to: &str, service: Service) -> Self {
        Self { from: from.to_owned(), to: to.to_owned(), service, v6: false }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { " over IPv6" } else { "" };
        write!(f, "{} -> {}:{}{family}", self.from, self.to, self.service)
    }
}

/// Cells and whether each is open.
pub type Verdicts = BTreeMap<Cell, bool>;

/// Every pair of hosts of a testbed, on every service of the destination, in every family both have.
pub fn all_cells(bed: &Testbed) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (from, source) in bed.hosts() {
        for (to, target) in bed.hosts().iter().filter(|(to, _)| *to != from) {
            for v6 in
                [false, true].into_iter().filter(|v6| source.speaks(*v6) && target.speaks(*v6))
            {
                cells.extend(target.services.iter().map(|service| Cell {
                    from: from.clone(),
                    to: to.clone(),
                    service: *service,
                    v6,
                }));
            }
        }
    }
    cells
}

/// What the policies of a world say of these cells, by the evaluator, asked with addresses as packets have them.
pub fn expected(bed: &Testbed, world: &World, cells: &[Cell]) -> Result<Verdicts> {
    cells
        .iter()
        .map(|cell| {
            let address = |name| {
                bed.host(name).map(|h| h.addresses.iter().find(|a| a.is_ipv6() == cell.v6).copied())
            };
            let (src, dst) = (address(&cell.from)?, address(&cell.to)?);
            let l4 = L4::Port { protocol: cell.service.protocol, dport: cell.service.port };
            let open = src.zip(dst).is_some_and(|(src, dst)| {
                eval::verdict(world, &eval::from_addresses(world, src, dst, l4)).allowed()
            });
            Ok((cell.clone(), open))
        })
        .collect()
}

/// What was seen of some cells, next to what was expected.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub outcomes: BTreeMap<Cell, Outcome>,
    /// From the start until everything was as expected for the first time.
    pub converged: Duration,
    /// Exchanges tried.
    pub probes: usize,
    /// Cells that are not as expected, with what was expected.
    pub wrong: Verdicts,
}

impl Observed {
    /// One line for each cell that is not as expected.
    pub fn differences(&self) -> Vec<String> {
        self.wrong
            .iter()
            .map(|(cell, open)| difference(cell, *open, self.outcomes.get(cell)))
            .collect()
    }

    /// What was seen, as verdicts.
    pub fn verdicts(&self) -> Verdicts {
        self.outcomes.iter().map(|(cell, outcome)| (cell.clone(), outcome.is_open())).collect()
    }
}

fn difference(cell: &Cell, open: bool, seen: Option<&Outcome>) -> String {
    let expected = if open { "open" } else { "closed" };
    match seen {
        Some(outcome) => format!("{cell}: expected {expected}, seen: {outcome}"),
        None => format!("{cell}: expected {expected}, not tried"),
    }
}

/// An open cell must be answered by the right host, a closed one by nobody at all.
fn is_right(cell: &Cell, open: bool, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Answered(who) => open && *who == cell.to,
        Outcome::Silent => !open,
        Outcome::Refused | Outcome::Failed(_) => false,
    }
}

impl Testbed {
    /// Tries these cells once each.
    pub fn probe(&self, cells: &[Cell], budget: Budget) -> Result<Vec<Outcome>> {
        let requests = cells.iter().map(|c| self.request(c)).collect::<Result<Vec<_>>>()?;
        Ok(self.engine().probe(requests, budget))
    }

    /// The probe of a cell.
    pub fn request(&self, cell: &Cell) -> Result<Request> {
        let target = self.host(&cell.to)?;
        let to = target.target(cell.v6, cell.service.port).ok_or_else(|| Error::Name {
            kind: "host",
            name: cell.to.clone(),
            reason: "has no address of that family",
        })?;
        Ok(Request {
            from: self.host(&cell.from)?.inside.clone(),
            to,
            protocol: cell.service.protocol,
        })
    }

    /// Tries these cells until all are as expected, then all of them once more, so that what was looked at before a
    /// change was in force counts for nothing. Whatever surprises is looked at again, with more patience, until `limit`.
    ///
    /// Errors: only what kept it from probing; differences are in the result.
    pub fn settle(&self, expected: &Verdicts, limit: Duration) -> Result<Observed> {
        let start = Instant::now();
        let all: Vec<&Cell> = expected.keys().collect();
        let mut seen = Observed::default();
        let mut wrong = self.look(&all, expected, Budget::QUICK, &mut seen)?;
        for last in [false, true] {
            if last {
                seen.converged = start.elapsed();
                if !wrong.is_empty() {
                    break;
                }
                wrong = self.look(&all, expected, Budget::QUICK, &mut seen)?;
            }
            while !wrong.is_empty() && start.elapsed() < limit {
                wrong = self.look(&wrong, expected, Budget::PATIENT, &mut seen)?;
            }
        }
        seen.wrong = wrong.into_iter().map(|c| (c.clone(), is_open(expected, c))).collect();
        Ok(seen)
    }

    /// Waits until these cells are as given.
    ///
    /// Errors: [`Error::Differs`] when they are not within `limit`.
    pub fn sees(&self, expected: &Verdicts, limit: Duration) -> Result<Observed> {
        let seen = self.settle(expected, limit)?;
        if seen.wrong.is_empty() {
            Ok(seen)
        } else {
            Err(Error::Differs { probes: expected.len(), lines: seen.differences() })
        }
    }

    /// The cells of one connection, in every family that both ends have.
    pub fn one(&self, from: &str, to: &str, service: Service, open: bool) -> Result<Verdicts> {
        let (source, target) = (self.host(from)?, self.host(to)?);
        Ok([false, true]
            .into_iter()
            .filter(|v6| source.speaks(*v6) && target.speaks(*v6))
            .map(|v6| (Cell { v6, ..Cell::v4(from, to, service) }, open))
            .collect())
    }

    /// Tries cells, notes the outcomes, and returns those that are not as expected.
    fn look<'c>(
        &self,
        cells: &[&'c Cell],
        expected: &Verdicts,
        budget: Budget,
        seen: &mut Observed,
    ) -> Result<Vec<&'c Cell>> {
        interrupt::check()?;
        let requests = cells.iter().map(|c| self.request(c)).collect::<Result<Vec<_>>>()?;
        let outcomes = self.engine().probe(requests, budget);
        seen.probes += cells.len();
        let mut wrong = Vec::new();
        for (cell, outcome) in cells.iter().zip(outcomes) {
            if !is_right(cell, is_open(expected, cell), &outcome) {
                wrong.push(*cell);
            }
            seen.outcomes.insert((*cell).clone(), outcome);
        }
        Ok(wrong)
    }
}

fn is_open(expected: &Verdicts, cell: &Cell) -> bool {
    expected.get(cell).copied().unwrap_or_default()
}

/// A table of who reaches whom, or two of them beside each other.
///
/// `*` is everything that the destination serves, `.` nothing, and a letter, explained below the table, a part of it.
/// `(4)` or `(6)` behind a port says that it is open in that family only.
pub fn render(left: (&str, &Verdicts), right: Option<(&str, &Verdicts)>) -> String {
    let tables: Vec<(&str, &Verdicts)> = std::iter::once(left).chain(right).collect();
    let names: Vec<&HostName> =
        left.1.keys().flat_map(|c| [&c.from, &c.to]).collect::<BTreeSet<_>>().into_iter().collect();
    let head = "   FROM \\ TO";
    let label = names.iter().map(|n| n.chars().count() + 3).max().unwrap_or(0).max(head.len());
    let width = names.len().to_string().len() + 1;
    let wide = tables.iter().map(|(t, _)| t.len()).max().unwrap_or(0).max(width * names.len());
    let mut parts: Vec<String> = Vec::new();

    let mut out = String::new();
    let mut line = |first: &str, grids: &[String]| {
        let grids: Vec<String> = grids.iter().map(|g| format!("{g:<wide$}")).collect();
        let text = format!("{first:<label$}  {}", grids.join("   "));
        let _ = writeln!(out, "{}", text.trim_end());
    };
    let titles: Vec<String> = tables.iter().map(|(title, _)| (*title).to_owned()).collect();
    line("", &titles);
    let heads: String = (1..=names.len()).map(|n| format!("{n:>width$}")).collect();
    line(head, &vec![heads; tables.len()]);
    for (n, from) in names.iter().enumerate() {
        let grids: Vec<String> = tables
            .iter()
            .map(|(_, verdicts)| {
                names
                    .iter()
                    .map(|to| format!("{:>width$}", symbol(&entry(verdicts, from, to), &mut parts)))
                    .collect()
            })
            .collect();
        line(&format!("{:>2} {from}", n + 1), &grids);
    }
    let legend = parts.iter().zip('a'..='z').map(|(part, letter)| format!("{letter} = {part}"));
    let legend: Vec<String> = ["* = all ports served".to_owned(), ". = none".to_owned()]
        .into_iter()
        .chain(legend)
        .collect();
    let _ = writeln!(out, "{:label$}  {}", "", legend.join(", "));
    out
}

/// One sign for an entry; what is neither all nor nothing gets a letter of its own, as far as there are letters.
fn symbol(entry: &str, parts: &mut Vec<String>) -> char {
    match entry {
        "*" => '*',
        "." => '.',
        "-" => '-',
        "" => ' ',
        part => {
            let n = parts.iter().position(|p| p == part).unwrap_or_else(|| {
                parts.push(part.to_owned());
                parts.len() - 1
            });
            ('a'..='z').nth(n).unwrap_or('?')
        }
    }
}

/// `80,53/udp(4)`, `*` for all, `.` for nothing, `-` for itself, empty where nothing was tried.
fn entry(verdicts: &Verdicts, from: &str, to: &str) -> String {
    if from == to {
        return "-".to_owned();
    }
    let mut services: BTreeMap<Service, [Option<bool>; 2]> = BTreeMap::new();
    for (cell, open) in verdicts.iter().filter(|(c, _)| c.from == from && c.to == to) {
        let slot = services.entry(cell.service).or_default();
        slot[usize::from(cell.v6)] = Some(*open);
    }
    if services.is_empty() {
        return String::new();
    }
    let open: Vec<String> = services
        .iter()
        .filter_map(|(service, families)| match families {
            [Some(true), Some(false)] => Some(format!("{service}(4)")),
            [Some(false), Some(true)] => Some(format!("{service}(6)")),
            [Some(true), _] | [_, Some(true)] => Some(service.to_string()),
            _ => None,
        })
        .collect();
    let whole = |families: &[Option<bool>; 2]| !families.contains(&Some(false));
    if open.is_empty() {
        ".".to_owned()
    } else if services.values().all(whole) {
        "*".to_owned()
    } else {
        open.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{tcp, udp};

    fn cell(from: &str, to: &str, service: Service, v6: bool) -> Cell {
        Cell { from: from.into(), to: to.into(), service, v6 }
    }

    #[test]
    fn cells_show_ports_families_all_and_none() {
        let verdicts = Verdicts::from([
            (cell("x/a", "x/b", tcp(80), false), true),
            (cell("x/a", "x/b", tcp(80), true), true),
            (cell("x/a", "x/b", udp(53), false), true),
            (cell("x/a", "x/b", udp(53), true), false),
            (cell("x/b", "x/a", tcp(80), false), false),
            (cell("world/w", "x/a", tcp(80), false), true),
        ]);
        let text = render(("EXPECTED", &verdicts), Some(("OBSERVED", &verdicts)));
        let lines = [
            "              EXPECTED   OBSERVED",
            "   FROM \\ TO   1 2 3      1 2 3",
            " 1 world/w     - *        - *",
            " 2 x/a           - a        - a",
            " 3 x/b           . -        . -",
            "              * = all ports served, . = none, a = 80,53/udp(4)",
            "",
        ];
        assert_eq!(text, lines.join("\n"));
    }

    #[test]
    fn an_open_cell_needs_the_right_answer_and_a_closed_one_silence() {
        let c = cell("x/a", "x/b", tcp(80), false);
        let answered = |who: &str| Outcome::Answered(who.into());
        assert!(is_right(&c, true, &answered("x/b")));
        assert!(!is_right(&c, true, &answered("x/c")));
        assert!(!is_right(&c, true, &Outcome::Silent));
        assert!(is_right(&c, false, &Outcome::Silent));
        assert!(!is_right(&c, false, &Outcome::Refused));
        assert!(!is_right(&c, false, &Outcome::Failed("no route".into())));
        assert_eq!(
            difference(&c, false, Some(&answered("x/b"))),
            "x/a -> x/b:80: expected closed, seen: answered by x/b"
        );
    }
}
