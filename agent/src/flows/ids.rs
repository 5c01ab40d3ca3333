//! Rule ids within a node: cut from the content, hashed again on a clash, never dependent on the order of events.

use std::collections::{BTreeMap, HashMap, HashSet};

use weir_policy::ids::{ContentHash, RuleId};

/// Contents in use and their ids.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    users: BTreeMap<ContentHash, usize>,
    ids: HashMap<ContentHash, RuleId>,
    by_id: HashMap<RuleId, ContentHash>,
    /// Some content does not have its first candidate.
    clashed: bool,
}

impl Ids {
    /// The id of a content in use.
    pub fn get(&self, content: &ContentHash) -> Option<RuleId> {
        self.ids.get(content).copied()
    }

    /// The content behind an id.
    pub fn content(&self, id: RuleId) -> Option<&ContentHash> {
        self.by_id.get(&id)
    }

    /// One more user. Returns the contents whose id changed, itself included when new.
    pub fn add(&mut self, content: ContentHash) -> Vec<ContentHash> {
        let users = self.users.entry(content).or_insert(0);
        *users += 1;
        if *users > 1 {
            return Vec::new();
        }
        let first = RuleId::candidate(&content, 0);
        if self.clashed || self.by_id.contains_key(&first) {
            return self.allocate();
        }
        self.ids.insert(content, first);
        self.by_id.insert(first, content);
        vec![content]
    }

    /// One user less; the last one frees the id. Returns the contents whose id changed.
    pub fn remove(&mut self, content: &ContentHash) -> Vec<ContentHash> {
        let Some(users) = self.users.get_mut(content) else {
            return Vec::new();
        };
        *users -= 1;
        if *users > 0 {
            return Vec::new();
        }
        self.users.remove(content);
        if let Some(id) = self.ids.remove(content) {
            self.by_id.remove(&id);
        }
        if self.clashed { self.allocate() } else { Vec::new() }
    }

    /// Everything anew, in the order of contents: the lesser content gets its first candidate, whoever came first.
    fn allocate(&mut self) -> Vec<ContentHash> {
        let mut taken = HashSet::new();
        let mut ids = HashMap::with_capacity(self.users.len());
        self.clashed = false;
        for content in self.users.keys() {
            let mut attempt = 0;
            let id = loop {
                let id = RuleId::candidate(content, attempt);
                if taken.insert(id) {
                    break id;
                }
                self.clashed = true;
                attempt += 1;
            };
            ids.insert(*content, id);
        }
        let changed =
            ids.iter().filter(|(c, id)| self.ids.get(*c) != Some(id)).map(|(c, _)| *c).collect();
        self.by_id = ids.iter().map(|(c, id)| (*id, *c)).collect();
        self.ids = ids;
        changed
    }
}
