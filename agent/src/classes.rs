//! Class numbers: profiles that this node's rules cannot tell apart share one small number.
//!
//! Two profiles are told apart by the groups (of those the node has) that hold them, and by the numbers behind the named
//! ports that its rules ask for. [`assign`] is the whole of it, as one pure function; [`Classes::update`] gives the same
//! answer while looking only at what changed. Numbers are kept as far as possible: a class whose members all change in
//! the same way keeps its number, in a split the part with the most addresses keeps it, and after a restart the numbers
//! come from the installed flows ([`numbers_from`]), so that nothing moves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use weir_policy::ids::{GroupId, ProfileId};
use weir_policy::port::NamedPort;

use crate::flow::FlowTable;
use crate::pipeline::endpoint;

/// What rules can ask of a profile. Equal keys are one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub groups: BTreeSet<GroupId>,
    /// The named ports that some rule of the node asks for.
    pub ports: BTreeSet<NamedPort>,
}

/// A class: its key and the profiles that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub key: Arc<Key>,
    pub members: BTreeSet<ProfileId>,
}

/// A part of an old class that now has one key. Units of `weight`: addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub old: Option<u32>,
    pub key: Arc<Key>,
    pub weight: usize,
}

/// The pure function: (numbers so far, keys) -> numbers.
///
/// The heaviest part of an old class keeps its number, and a key that several old classes flow into takes the heaviest
/// one's; ties go to the lower number, then the lesser key. Keys without a number get the lowest ones that are free.
pub fn assign(parts: &[Part], taken: &BTreeSet<u32>) -> BTreeMap<Arc<Key>, u32> {
    let mut weights: BTreeMap<(u32, &Arc<Key>), usize> = BTreeMap::new();
    for p in parts {
        if let Some(old) = p.old {
            *weights.entry((old, &p.key)).or_default() += p.weight;
        }
    }
    let mut order: Vec<(usize, u32, &Arc<Key>)> =
        weights.into_iter().map(|((old, key), w)| (w, old, key)).collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(b.2)));
    let mut used = taken.clone();
    let mut out: BTreeMap<Arc<Key>, u32> = BTreeMap::new();
    for (_, old, key) in order {
        if !out.contains_key(key) && used.insert(old) {
            out.insert(Arc::clone(key), old);
        }
    }
    let missing: BTreeSet<&Arc<Key>> = parts.iter().map(|p| &p.key).collect();
    let mut next = 1;
    for key in missing {
        if !out.contains_key(key) {
            while !used.insert(next) {
                next += 1;
            }
            out.insert(Arc::clone(key), next);
        }
    }
    out
}

/// What an update changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Classes that came, went, or have another key.
    pub classes: BTreeSet<u32>,
    /// Profiles that have another class than before, or none any more.
    pub profiles: BTreeSet<ProfileId>,
    /// Groups that gained or lost a class.
    pub groups: BTreeSet<GroupId>,
    /// Classes whose members may be others than before.
    pub members: BTreeSet<u32>,
}

/// The classes of a node.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    by_profile: HashMap<ProfileId, u32>,
    by_key: HashMap<Arc<Key>, u32>,
    classes: BTreeMap<u32, Class>,
    by_group: HashMap<GroupId, BTreeSet<u32>>,
}

impl Classes {
    pub fn of(&self, profile: ProfileId) -> Option<u32> {
        self.by_profile.get(&profile).copied()
    }

    pub fn get(&self, class: u32) -> Option<&Class> {
        self.classes.get(&class)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Class)> {
        self.classes.iter().map(|(n, c)| (*n, c))
    }

    /// The classes whose profiles are in this group.
    pub fn in_group(&self, group: GroupId) -> impl Iterator<Item = u32> {
        self.by_group.get(&group).into_iter().flatten().copied()
    }

    /// Gives profiles their new key, or takes them away (`None`).
    ///
    /// `weight` is the number of addresses of a profile. `before` are old numbers of profiles that have no class yet,
    /// with their weights: what the installed flows say after a restart.
    pub fn update(
        &mut self,
        keys: BTreeMap<ProfileId, Option<Key>>,
        weight: impl Fn(ProfileId) -> usize,
        before: impl Fn(ProfileId) -> Vec<(u32, usize)>,
    ) -> Changed {
        // profiles whose key really changes, and all old classes that those leave or enter
        let mut touched: BTreeMap<ProfileId, Option<Arc<Key>>> = BTreeMap::new();
        let mut affected: BTreeSet<u32> = BTreeSet::new();
        for (profile, key) in keys {
            let old = self.by_profile.get(&profile).copied();
            let old_key = old.and_then(|n| self.classes.get(&n)).map(|c| &c.key);
            if key.is_none() && old.is_none()
                || key.is_some() && key.as_ref() == old_key.map(|k| &**k)
            {
                continue;
            }
            affected.extend(old);
            let key = key.map(|k| match self.by_key.get_key_value(&k) {
                Some((shared, number)) => {
                    affected.insert(*number);
                    Arc::clone(shared)
                }
                None => Arc::new(k),
            });
            touched.insert(profile, key);
        }
        if touched.is_empty() {
            return Changed::default();
        }

        // every member of an affected class is a part, moved or not
        let mut parts: Vec<Part> = Vec::new();
        let mut members: BTreeMap<Arc<Key>, BTreeSet<ProfileId>> = BTreeMap::new();
        for number in &affected {
            let Some(class) = self.classes.get(number) else {
                continue;
            };
            for profile in &class.members {
                let key = match touched.get(profile) {
                    Some(Some(key)) => Arc::clone(key),
                    Some(None) => continue,
                    None => Arc::clone(&class.key),
                };
                members.entry(Arc::clone(&key)).or_default().insert(*profile);
                parts.push(Part { old: Some(*number), key, weight: weight(*profile) });
            }
        }
        for (profile, key) in &touched {
            let (Some(key), false) = (key, self.by_profile.contains_key(profile)) else {
                continue;
            };
            members.entry(Arc::clone(key)).or_default().insert(*profile);
            parts.push(Part { old: None, key: Arc::clone(key), weight: 0 });
            for (old, weight) in before(*profile) {
                parts.push(Part { old: Some(old), key: Arc::clone(key), weight });
            }
        }
        let taken: BTreeSet<u32> =
            self.classes.keys().filter(|n| !affected.contains(n)).copied().collect();
        let numbers = assign(&parts, &taken);

        let mut changed = Changed { members: affected.clone(), ..Changed::default() };
        changed.members.extend(numbers.values());
        let mut old_classes: BTreeMap<u32, Class> = BTreeMap::new();
        for number in &affected {
            if let Some(class) = self.classes.remove(number) {
                self.by_key.remove(&class.key);
                old_classes.insert(*number, class);
            }
        }
        let old_number: BTreeMap<ProfileId, Option<u32>> = members
            .values()
            .flatten()
            .chain(touched.keys())
            .map(|p| (*p, self.by_profile.get(p).copied()))
            .collect();
        for (profile, key) in &touched {
            if key.is_none() {
                self.by_profile.remove(profile);
            }
        }
        let assigned: BTreeSet<u32> = numbers.values().copied().collect();
        for (key, number) in numbers {
            let members = members.remove(&key).unwrap_or_default();
            for p in &members {
                self.by_profile.insert(*p, number);
            }
            self.by_key.insert(Arc::clone(&key), number);
            self.classes.insert(number, Class { key, members });
        }
        for (profile, old) in old_number {
            if self.by_profile.get(&profile).copied() != old {
                changed.profiles.insert(profile);
            }
        }
        for number in affected.union(&assigned) {
            let old = old_classes.get(number).map(|c| &c.key);
            let new = self.classes.get(number).map(|c| Arc::clone(&c.key));
            if old == new.as_ref() {
                continue;
            }
            changed.classes.insert(*number);
            if old.is_none_or(|o| new.as_ref().is_none_or(|n| n.ports != o.ports)) {
                // rules with named ports look at the ports of the classes in their groups
                changed.groups.extend(old.iter().flat_map(|k| &k.groups));
                changed.groups.extend(new.iter().flat_map(|k| &k.groups));
            }
            let none = BTreeSet::new();
            let (before, now) = (
                old.map_or(&none, |k| &k.groups).clone(),
                new.as_ref().map_or(&none, |k| &k.groups).clone(),
            );
            for group in before.difference(&now) {
                changed.groups.insert(*group);
                if let Some(set) = self.by_group.get_mut(group) {
                    set.remove(number);
                    if set.is_empty() {
                        self.by_group.remove(group);
                    }
                }
            }
            for group in now.difference(&before) {
                changed.groups.insert(*group);
                self.by_group.entry(*group).or_default().insert(*number);
            }
        }
        changed
    }
}

/// The numbers that the installed flows give to addresses.
pub fn numbers_from(installed: &FlowTable) -> BTreeMap<IpAddr, u32> {
    installed.iter().filter_map(|(k, v)| endpoint::read_source(k, v)).collect()
}
