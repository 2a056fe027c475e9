//! What the counters do not say by themselves: what was counted by servers and services that are gone, and since when
//! counts are shown (`ipvsadm -Z`). Both outlive the daemon, in a map of its own that no program looks at.
//!
//! **Carrying.** What a server that goes has counted is added to its service's account, and what a service that goes has
//! counted to its scope's. It is then in two places for a moment, and a daemon that is killed in that moment must count it
//! once: the amount waits in the account with the place that it comes from, and counts only once that place is given up.

use std::collections::HashMap;
use std::path::Path;

use aya::maps::lpm_trie::{Key as TrieKey, LpmTrie};
use aya::maps::{Map, MapData};

use super::maps::Plain;
use super::{Counters, DatapathError, ebpf, ebpf_map};
use crate::model::ScopeId;

/// Whose account it is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    kind: u32,
    index: u32,
}

/// Where an owner is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A scope's number.
    Scope(u32),
    /// In the services map.
    Service(u32),
    /// In the servers map.
    Server(u32),
}

impl Owner {
    const SCOPE: u32 = 1;
    const SERVICE: u32 = 2;
    const SERVER: u32 = 3;

    pub(super) const fn scope(scope: ScopeId) -> Self {
        Self {
            kind: Self::SCOPE,
            index: scope.get(),
        }
    }

    /// By its place in the services map.
    pub(super) const fn service(at: u32) -> Self {
        Self {
            kind: Self::SERVICE,
            index: at,
        }
    }

    /// By its place in the servers map.
    pub(super) const fn server(at: u32) -> Self {
        Self {
            kind: Self::SERVER,
            index: at,
        }
    }

    /// Where it is to be found.
    pub(super) const fn place(self) -> Place {
        match self.kind {
            Self::SCOPE => Place::Scope(self.index),
            Self::SERVICE => Place::Service(self.index),
            _ => Place::Server(self.index),
        }
    }
}

/// One account. Counts go round at 2^64, so that a sum may also be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Account {
    carried: [u64; 5],
    /// What `from` has counted, until it is given up.
    waiting: [u64; 5],
    /// What there was when it was last zeroed.
    zero: [u64; 5],
    /// The place that `waiting` comes from, 0 for none.
    from: u32,
}

impl Account {
    fn settle(&mut self, gone: bool) {
        if gone {
            self.carried = add(self.carried, self.waiting);
        }
        self.waiting = [0; 5];
        self.from = 0;
    }
}

fn add(a: [u64; 5], b: [u64; 5]) -> [u64; 5] {
    std::array::from_fn(|place| a[place].wrapping_add(b[place]))
}

/// Where accounts are kept: the map, or in tests memory.
pub(super) trait Shelf {
    fn put(&mut self, owner: Owner, account: [u64; 16]) -> Result<(), DatapathError>;
    fn remove(&mut self, owner: Owner) -> Result<(), DatapathError>;
    fn all(&self) -> Result<Vec<(Owner, [u64; 16])>, DatapathError>;
}

/// All accounts: in memory for reading, on the shelf for the next daemon.
pub(super) struct Accounts<S> {
    shelf: S,
    accounts: HashMap<Owner, Account>,
}

impl<S: Shelf> Accounts<S> {
    /// Takes up what is on the shelf. `gone` tells whether the place (of a server for a service's account, of a service for
    /// a scope's) has been given up by the owner, `known` whether there still is such an owner.
    pub(super) fn open(
        shelf: S,
        gone: impl Fn(Owner, u32) -> bool,
        known: impl Fn(Owner) -> bool,
    ) -> Result<Self, DatapathError> {
        let mut accounts = Self {
            accounts: HashMap::new(),
            shelf,
        };
        for (owner, words) in accounts.shelf.all()? {
            let mut account = Account::from_words(words);
            if !known(owner) {
                accounts.shelf.remove(owner)?;
                continue;
            }
            if account.from != 0 {
                account.settle(gone(owner, account.from));
                accounts.shelf.put(owner, account.words())?;
            }
            accounts.accounts.insert(owner, account);
        }
        Ok(accounts)
    }

    /// What is carried for an owner, to be added to what its present parts have counted.
    pub(super) fn carried(&self, owner: Owner) -> Counters {
        let account = self.accounts.get(&owner);
        Counters::from_array(account.map_or([0; 5], |account| account.carried))
    }

    /// What is shown of a total: what was counted since it was zeroed.
    pub(super) fn since_zero(&self, owner: Owner, total: Counters) -> Counters {
        let zero = self
            .accounts
            .get(&owner)
            .map_or([0; 5], |account| account.zero);
        total.less(Counters::from_array(zero))
    }

    /// Begins to carry what the part at `from` has counted. That place must be given up next, then comes
    /// [`Accounts::settle`].
    pub(super) fn carry(
        &mut self,
        owner: Owner,
        from: u32,
        amount: Counters,
    ) -> Result<(), DatapathError> {
        self.change(owner, |account| {
            account.waiting = amount.to_array();
            account.from = from;
        })
    }

    /// The part has been given up: what was begun is carried.
    pub(super) fn settle(&mut self, owner: Owner) -> Result<(), DatapathError> {
        self.change(owner, |account| account.settle(true))
    }

    /// Lets a new owner begin at nothing, though its parts have counted `already`.
    pub(super) fn begin(&mut self, owner: Owner, already: Counters) -> Result<(), DatapathError> {
        if already == Counters::default() {
            return self.close(owner);
        }
        let carried = Counters::default().less(already).to_array();
        self.change(owner, |account| {
            *account = Account {
                carried,
                ..Account::default()
            };
        })
    }

    /// Shows counts from now on, where they are `total`.
    pub(super) fn zero(&mut self, owner: Owner, total: Counters) -> Result<(), DatapathError> {
        self.change(owner, |account| account.zero = total.to_array())
    }

    /// Forgets an owner.
    pub(super) fn close(&mut self, owner: Owner) -> Result<(), DatapathError> {
        match self.accounts.remove(&owner) {
            Some(_) => self.shelf.remove(owner),
            None => Ok(()),
        }
    }

    fn change(
        &mut self,
        owner: Owner,
        change: impl FnOnce(&mut Account),
    ) -> Result<(), DatapathError> {
        let before = self.accounts.get(&owner).copied().unwrap_or_default();
        let mut account = before;
        change(&mut account);
        if account == before {
            return Ok(());
        }
        self.shelf.put(owner, account.words())?;
        self.accounts.insert(owner, account);
        Ok(())
    }
}

impl Account {
    fn words(self) -> [u64; 16] {
        let mut words = [0; 16];
        words[..5].copy_from_slice(&self.carried);
        words[5..10].copy_from_slice(&self.waiting);
        words[10..15].copy_from_slice(&self.zero);
        words[15] = u64::from(self.from);
        words
    }

    fn from_words(words: [u64; 16]) -> Self {
        let five = |first: usize| std::array::from_fn(|place| words[first + place]);
        Self {
            carried: five(0),
            waiting: five(5),
            zero: five(10),
            from: words[15] as u32,
        }
    }
}

/// The map. A trie, for it alone has room for many and takes memory for those only that are there.
pub(super) struct Pinned {
    map: LpmTrie<MapData, Plain<Owner>, Plain<[u64; 16]>>,
}

/// `BPF_F_NO_PREALLOC`, without which there is no trie.
const NO_PREALLOC: u32 = 1;
/// All bits of a key.
const WHOLE: u32 = 64;

impl Pinned {
    /// The map at this path, made for so many accounts if it is not there.
    pub(super) fn open(path: &Path, most: u32) -> Result<Self, DatapathError> {
        let open = || format!("open {}", path.display());
        if !path.exists() {
            let made: LpmTrie<MapData, Plain<Owner>, Plain<[u64; 16]>> =
                LpmTrie::create(most, NO_PREALLOC)
                    .map_err(ebpf(format!("make {}", path.display())))?;
            made.pin(path)
                .map_err(ebpf(format!("pin {}", path.display())))?;
        }
        let map = MapData::from_pin(path).map_err(ebpf(open()))?;
        let map = Map::LpmTrie(map).try_into().map_err(ebpf(open()))?;
        Ok(Self { map })
    }
}

impl Shelf for Pinned {
    fn put(&mut self, owner: Owner, account: [u64; 16]) -> Result<(), DatapathError> {
        self.map
            .insert(&TrieKey::new(WHOLE, Plain(owner)), Plain(account), 0)
            .map_err(ebpf_map("keep counters"))
    }

    fn remove(&mut self, owner: Owner) -> Result<(), DatapathError> {
        super::services::ignore_missing(self.map.remove(&TrieKey::new(WHOLE, Plain(owner))))
            .map_err(ebpf_map("forget counters"))
    }

    fn all(&self) -> Result<Vec<(Owner, [u64; 16])>, DatapathError> {
        self.map
            .iter()
            .map(|entry| {
                let (key, Plain(account)) = entry.map_err(ebpf_map("read the counters kept"))?;
                let Plain(owner) = key.data();
                Ok((owner, account))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// A shelf that outlives its daemon, and refuses to be written after so many writes.
    #[derive(Clone, Default)]
    struct Kept {
        words: Rc<RefCell<HashMap<Owner, [u64; 16]>>>,
        left: Rc<RefCell<Option<usize>>>,
    }

    impl Kept {
        fn write(&self) -> Result<(), DatapathError> {
            match &mut *self.left.borrow_mut() {
                Some(0) => Err(DatapathError::Unsupported {
                    what: "a dead daemon".into(),
                }),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }
    }

    impl Shelf for Kept {
        fn put(&mut self, owner: Owner, account: [u64; 16]) -> Result<(), DatapathError> {
            self.write()?;
            self.words.borrow_mut().insert(owner, account);
            Ok(())
        }

        fn remove(&mut self, owner: Owner) -> Result<(), DatapathError> {
            self.write()?;
            self.words.borrow_mut().remove(&owner);
            Ok(())
        }

        fn all(&self) -> Result<Vec<(Owner, [u64; 16])>, DatapathError> {
            Ok(self.words.borrow().iter().map(|(k, v)| (*k, *v)).collect())
        }
    }

    fn counted(connections: u64) -> Counters {
        Counters {
            connections,
            in_bytes: 40 * connections,
            ..Counters::default()
        }
    }

    const SERVICE: Owner = Owner::service(3);

    fn open(kept: &Kept, gone: bool) -> Accounts<Kept> {
        Accounts::open(kept.clone(), |_, from| gone && from == 9, |_| true).unwrap()
    }

    #[test]
    fn what_a_server_counted_counts_once_wherever_the_daemon_dies() {
        // The steps of giving up server 9, which has counted 7 of the service's 12: 5 were carried before.
        for dies_after in 0..=2 {
            let kept = Kept::default();
            let mut accounts = open(&kept, false);
            accounts.carry(SERVICE, 8, counted(5)).unwrap();
            accounts.settle(SERVICE).unwrap();

            let mut there = true;
            *kept.left.borrow_mut() = Some(dies_after);
            if accounts.carry(SERVICE, 9, counted(7)).is_ok() {
                there = false;
                // Dying between the two is the case of one write.
                let _ = accounts.settle(SERVICE);
            }
            *kept.left.borrow_mut() = None;
            let again = open(&kept, !there);
            let of_server = counted(if there { 7 } else { 0 });
            let total = again.carried(SERVICE).plus(of_server);
            assert_eq!(total, counted(12), "after {dies_after} writes");
        }
        // And dead before the server was given up.
        let kept = Kept::default();
        let mut accounts = open(&kept, false);
        accounts.carry(SERVICE, 9, counted(7)).unwrap();
        assert_eq!(open(&kept, false).carried(SERVICE), counted(0));
        assert_eq!(open(&kept, true).carried(SERVICE), counted(7));
        // Once is once.
        assert_eq!(open(&kept, true).carried(SERVICE), counted(7));
    }

    #[test]
    fn zero_is_where_counting_is_shown_from() {
        let kept = Kept::default();
        let mut accounts = open(&kept, false);
        accounts.carry(SERVICE, 9, counted(7)).unwrap();
        accounts.settle(SERVICE).unwrap();
        accounts.zero(SERVICE, counted(10)).unwrap();
        accounts.zero(Owner::server(4), counted(3)).unwrap();
        let again = open(&kept, false);
        assert_eq!(again.since_zero(SERVICE, counted(12)), counted(2));
        assert_eq!(again.since_zero(Owner::server(4), counted(3)), counted(0));
        assert_eq!(again.since_zero(Owner::server(5), counted(3)), counted(3));
        // The absolute counts go on.
        assert_eq!(again.carried(SERVICE), counted(7));
    }

    #[test]
    fn a_service_that_takes_its_servers_back_begins_at_nothing() {
        let kept = Kept::default();
        let mut accounts = open(&kept, false);
        accounts.zero(SERVICE, counted(1)).unwrap();
        accounts.begin(SERVICE, counted(20)).unwrap();
        let total = accounts.carried(SERVICE).plus(counted(21));
        assert_eq!(accounts.since_zero(SERVICE, total), counted(1));
        accounts.begin(SERVICE, counted(0)).unwrap();
        assert!(kept.words.borrow().is_empty());
    }

    #[test]
    fn accounts_of_nobody_go() {
        let kept = Kept::default();
        open(&kept, false).zero(SERVICE, counted(1)).unwrap();
        drop(Accounts::open(kept.clone(), |_, _| false, |_| false).unwrap());
        assert!(kept.words.borrow().is_empty());
    }
}
