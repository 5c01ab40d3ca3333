//! What an agent holds, and how it differs from what it should hold.
//!
//! An agent that connects again has a state already, and it is nearly always right. It tells what it has by a digest for each
//! of a number of *buckets*, over which its objects are spread by their hashes; the controller spreads what the agent should
//! have in the same way, and sends the objects of the buckets whose digests differ. The agent replaces what it has in those, and
//! compares a digest of the whole with the controller's. When that differs nothing was gained and nothing lost: what it had
//! stays in force, and it asks for everything.
//!
//! An *object* is what one [`Change`] of a snapshot brings: the node, a profile, a group, an endpoint, a policy. Its hash
//! is the SHA-256 of its encoded change, so it is the same on all replicas and both ends. Where the encoding of objects
//! changes, [`FORM`] does, and ends of different form send everything.

use sha2::{Digest, Sha256};
use weir_policy::ids::{EndpointId, GroupId, PolicyKey, ProfileId};
use weir_policy::state::{Change, NodeInfo, NodeState};

use crate::convert::wire;
use crate::v1;

/// How objects are encoded. It grows when the same object may have other bytes: a field more, for instance. `tests::golden`
/// holds it to that.
pub const FORM: u32 = 1;

/// The most buckets there are: 64 KiB of digests. A state of 100,000 objects then has 12 in each.
pub const MAX_BUCKETS: usize = 8192;

/// How many objects share a bucket, about: two to four, while there are not more than [`MAX_BUCKETS`]. A digest takes 8 bytes
/// and an object 50 to 120: with fewer the question grows for everybody, with more the answer to those who lack little.
const SHARE: usize = 4;

/// Enough to find what differs: a bucket that is wrong and looks right shows in the digest of the whole. Units: bytes.
const DIGEST: usize = 8;

/// SHA-256 of an encoded object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectHash([u8; 32]);

impl ObjectHash {
    /// Of an encoded [`v1::Change`].
    pub fn of(encoded: &[u8]) -> Self {
        Self(Sha256::digest(encoded).into())
    }

    /// Its bucket among 2 to the power of `bits`.
    fn bucket(&self, bits: u32) -> usize {
        let first = u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]);
        // with no bits at all everything is in the one bucket
        first.checked_shr(32 - bits).unwrap_or_default() as usize
    }
}

/// The hashes of all objects of a state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Without repetitions, and so in the order of buckets.
    sorted: Vec<ObjectHash>,
}

impl FromIterator<ObjectHash> for Hashes {
    fn from_iter<I: IntoIterator<Item = ObjectHash>>(hashes: I) -> Self {
        let mut sorted: Vec<ObjectHash> = hashes.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted }
    }
}

impl Hashes {
    /// Of every object of a state.
    pub fn of(state: &NodeState) -> Self {
        objects(state, |hash, _| hash).into_iter().collect()
    }

    /// Of the whole: SHA-256 over all hashes, sorted.
    pub fn digest(&self) -> [u8; 32] {
        all(&self.sorted)
    }

    /// The digest of each of 2 to the power of `bits` buckets.
    fn digests(&self, bits: u32) -> Vec<[u8; DIGEST]> {
        let mut out = vec![[0; DIGEST]; 1 << bits];
        let same = |a: &ObjectHash, b: &ObjectHash| a.bucket(bits) == b.bucket(bits);
        for bucket in self.sorted.chunk_by(same) {
            let digest = all(bucket);
            out[bucket[0].bucket(bits)].copy_from_slice(&digest[..DIGEST]);
        }
        out
    }

    /// Which buckets of `theirs` are not as they should be; none where holdings cannot be compared with these hashes:
    /// of another [`FORM`], or of a number of buckets that is none.
    pub fn compare(&self, theirs: &v1::Holdings) -> Option<Difference> {
        let count = theirs.digests.len() / DIGEST;
        let whole = theirs.digests.len().is_multiple_of(DIGEST);
        if theirs.form != FORM || !whole || !count.is_power_of_two() || count > MAX_BUCKETS {
            return None;
        }
        let bits = count.ilog2();
        let ours = self.digests(bits);
        let differs =
            ours.iter().zip(theirs.digests.chunks_exact(DIGEST)).map(|(o, t)| o != t).collect();
        Some(Difference { bits, differs })
    }
}

fn all(hashes: &[ObjectHash]) -> [u8; 32] {
    let mut out = Sha256::new();
    for hash in hashes {
        out.update(hash.0);
    }
    out.finalize().into()
}

/// The buckets in which an agent holds what it should not, or lacks what it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    bits: u32,
    differs: Vec<bool>,
}

impl Difference {
    /// Whether the agent is to be told of the object with this hash.
    pub fn holds(&self, hash: &ObjectHash) -> bool {
        self.differs[hash.bucket(self.bits)]
    }

    /// For [`v1::SnapshotBegin`].
    pub fn to_proto(&self) -> v1::Buckets {
        let numbers = (0..).zip(&self.differs).filter(|(_, differs)| **differs);
        v1::Buckets { numbers: numbers.map(|(number, _)| number).collect() }
    }
}

/// A state whose objects are known by their hashes: the agent's part.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    state: NodeState,
    /// There are 2 to the power of this many buckets.
    bits: u32,
    objects: Vec<(ObjectHash, Object)>,
}

/// A bucket that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bucket {number} of {count}")]
pub struct NoBucket {
    pub number: u32,
    pub count: usize,
}

impl Held {
    pub fn new(state: NodeState) -> Self {
        let objects = objects(&state, |hash, object| (hash, object));
        let count = (objects.len() / SHARE).next_power_of_two().min(MAX_BUCKETS);
        Self { state, bits: count.ilog2(), objects }
    }

    /// For [`v1::Hello`].
    pub fn to_proto(&self) -> v1::Holdings {
        let hashes: Hashes = self.objects.iter().map(|(hash, _)| *hash).collect();
        let digests = hashes.digests(self.bits).concat();
        v1::Holdings { form: FORM, digests: digests.into() }
    }

    /// The state without what is in these buckets.
    ///
    /// Errors: [`NoBucket`].
    pub fn without(self, buckets: &v1::Buckets) -> Result<NodeState, NoBucket> {
        let Self { mut state, bits, objects } = self;
        let mut drops = vec![false; 1 << bits];
        for number in &buckets.numbers {
            let drops_it = drops.get_mut(*number as usize);
            *drops_it.ok_or(NoBucket { number: *number, count: 1 << bits })? = true;
        }
        for (hash, object) in objects {
            if drops[hash.bucket(bits)] {
                object.leave(&mut state);
            }
        }
        Ok(state)
    }
}

/// Which object of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    Node,
    Profile(ProfileId),
    Group(GroupId),
    Endpoint(EndpointId),
    Policy(PolicyKey),
}

impl Object {
    fn leave(self, state: &mut NodeState) {
        match self {
            Self::Node => state.node = NodeInfo::default(),
            Self::Profile(id) => drop(state.profiles.remove(&id)),
            Self::Group(id) => drop(state.groups.remove(&id)),
            Self::Endpoint(id) => drop(state.endpoints.remove(&id)),
            Self::Policy(key) => drop(state.policies.remove(&key)),
        }
    }
}

/// Every object of a state with the hash of its encoded change.
fn objects<T>(state: &NodeState, make: impl Fn(ObjectHash, Object) -> T) -> Vec<T> {
    let mut scratch = Vec::new();
    let mut hash = |write: &mut dyn FnMut(&mut Vec<u8>)| {
        scratch.clear();
        write(&mut scratch);
        ObjectHash::of(content(&scratch))
    };
    let count = 1
        + state.profiles.len()
        + state.groups.len()
        + state.endpoints.len()
        + state.policies.len();
    let mut out = Vec::with_capacity(count);
    let node = Change::Node(state.node.clone());
    out.push(make(hash(&mut |out| wire::frame(out, &node)), Object::Node));
    for (id, profile) in &state.profiles {
        out.push(make(hash(&mut |out| wire::frame_profile(out, profile)), Object::Profile(*id)));
    }
    for (id, group) in &state.groups {
        let members = || group.members.iter().copied();
        let hash = hash(&mut |out| wire::frame_group(out, *id, &group.selector, members()));
        out.push(make(hash, Object::Group(*id)));
    }
    for (id, endpoint) in &state.endpoints {
        let hash = hash(&mut |out| wire::frame_endpoint(out, endpoint));
        out.push(make(hash, Object::Endpoint(id.clone())));
    }
    for (key, policy) in &state.policies {
        let hash = hash(&mut |out| wire::frame_policy(out, policy));
        out.push(make(hash, Object::Policy(key.clone())));
    }
    out
}

/// A frame without its length.
fn content(mut frame: &[u8]) -> &[u8] {
    // what was just written has one
    drop(prost::encoding::decode_varint(&mut frame));
    frame
}

#[cfg(test)]
mod tests;
