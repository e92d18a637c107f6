//! Sign-ins of people that have begun and not ended. Whoever begins is nobody yet, so nothing is written down for them, and nobody can
//! push out what others began: what must be known when they come back goes with their browser, in a cookie, sealed by the vault for
//! this very state and provider, with its end inside. Any replica can open it, also after a restart; who has no key can neither
//! read nor change it. The store learns of a sign-in when somebody comes back: the hash of its state, until the
//! sign-in's end, so that each is finished once, wherever that is tried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::pending::PendingError;
use crate::clock::Clock;
use crate::opaque::{hash, random};
use crate::secret::Secret;
use crate::store::{self, Expect, Name, Records, StoreError, Write};
use crate::vault::{Sealed, Vault};

/// States that somebody has come back with.
const USED: Name = "used_sign_ins";

/// Where an earlier version kept what has begun. What is left there ends by itself.
const LEFT: Name = "pending_people";

/// What the vault binds them to.
const KIND: &str = "sign-in of a person";

/// What the cookies' names begin with, after what browsers want of them.
pub const CARRIED: &str = "weir-sign-in";

/// Longest value of one cookie, in bytes. Browsers drop what is above 4096 without a word.
const PIECE: usize = 2000;

/// Most that one browser carries, in sign-ins and in bytes of cookies: with a head of a request that every proxy takes.
const MAX_EACH: usize = 8;
const MAX_BYTES: usize = 8000;

/// A cookie: its name, without what browsers want in front of it, and its value.
pub type Cookie = (String, Secret);

/// A sign-in that begins.
#[derive(Debug)]
pub struct Packed {
    /// For the browser to keep until it comes back.
    pub keep: Vec<Cookie>,
    /// Names of what it is to forget in turn: its oldest.
    pub drop: Vec<String>,
}

/// A sign-in that somebody came back to.
#[derive(Debug)]
pub struct Carried<T> {
    pub what: T,
    /// Names of the cookies that it was in.
    pub cookies: Vec<String>,
    id: String,
    ends: u64,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Load<T> {
    /// Seconds since 1970.
    ends: u64,
    what: T,
}

/// What is known of a state that was used.
#[derive(Serialize, Deserialize)]
struct Used {
    ends: u64,
    /// By which attempt: a store may take one's own change for somebody else's.
    #[serde(default)]
    by: String,
}

/// What carries them.
#[derive(Clone, Debug)]
pub struct Carrier {
    records: Arc<dyn Records>,
    clock: Clock,
}

/// `weir-sign-in.<end>.<tag>.<piece>`: the end, so that the oldest can be told, and a tag of the state, by which it is found.
struct Named<'n> {
    ends: u64,
    tag: &'n str,
    piece: usize,
}

impl<'n> Named<'n> {
    fn read(name: &'n str) -> Option<Self> {
        let mut parts = name.strip_prefix(CARRIED)?.strip_prefix('.')?.split('.');
        let (ends, tag, piece) = (parts.next()?, parts.next()?, parts.next()?);
        let named = Self { ends: u64::from_str_radix(ends, 16).ok()?, tag, piece: piece.parse().ok()? };
        parts.next().is_none().then_some(named)
    }
}

impl Carrier {
    /// Over this store.
    pub fn new(records: Arc<dyn Records>, clock: Clock) -> Self {
        Self { records, clock }
    }

    /// A `state` for a sign-in that is about to begin.
    pub fn state() -> Secret {
        random()
    }

    /// `what`, for a browser that shows these cookies to carry for `life`. `purpose` is what it may be used for. `None`: it is too
    /// large for a browser.
    ///
    /// # Errors
    /// The vault's.
    pub fn pack<T: Serialize>(
        &self,
        vault: &Vault,
        (purpose, state): (&str, &Secret),
        what: &T,
        life: Duration,
        shown: &[Cookie],
    ) -> Result<Option<Packed>, PendingError> {
        let id = hash(state.expose());
        let ends = self.clock.wall_seconds().saturating_add(life.as_secs());
        let plain = serde_json::to_string(&Load { ends, what });
        let plain = Secret::new(plain.map_err(|error| StoreError::record(&id, &error))?);
        let sealed = vault.seal(KIND, &format!("{purpose} {id}"), &plain)?.to_text();
        if sealed.len() > MAX_BYTES {
            return Ok(None);
        }
        let tag = tag_of(&id);
        let pieces = sealed.as_bytes().chunks(PIECE).map(String::from_utf8_lossy);
        let keep = pieces.enumerate();
        let keep = keep.map(|(at, piece)| (format!("{CARRIED}.{ends:x}.{tag}.{at}"), Secret::new(&*piece)));
        Ok(Some(Packed { keep: keep.collect(), drop: self.crowded_out(shown, sealed.len()) }))
    }

    /// What a browser has to forget before it takes so much more.
    fn crowded_out(&self, shown: &[Cookie], more: usize) -> Vec<String> {
        let now = self.clock.wall_seconds();
        // By end and tag: in how many bytes, and under which names.
        let mut each: BTreeMap<(u64, &str), (usize, Vec<&String>)> = BTreeMap::new();
        let mut drop = Vec::new();
        for (name, value) in shown {
            match Named::read(name).filter(|named| named.ends > now) {
                Some(named) => {
                    let (bytes, names) = each.entry((named.ends, named.tag)).or_default();
                    *bytes += value.expose().len();
                    names.push(name);
                }
                None => drop.push(name.clone()),
            }
        }
        let (mut bytes, mut count) = (more, 1);
        for (length, names) in each.into_values().rev() {
            bytes += length;
            count += 1;
            if bytes > MAX_BYTES || count > MAX_EACH {
                drop.extend(names.into_iter().cloned());
            }
        }
        drop
    }

    /// The sign-in of this state and for this purpose, if the browser that shows these cookies began it and it is not over. It goes on.
    pub fn open<T: DeserializeOwned>(
        &self,
        vault: &Vault,
        (purpose, state): (&str, &str),
        shown: &[Cookie],
    ) -> Option<Carried<T>> {
        let id = hash(state);
        let tag = tag_of(&id);
        let mut pieces: Vec<(usize, &Cookie)> = shown
            .iter()
            .filter_map(|cookie| {
                Some((Named::read(&cookie.0).filter(|named| named.tag == tag)?.piece, cookie))
            })
            .collect();
        pieces.sort_by_key(|(piece, _)| *piece);
        let sealed: String = pieces.iter().map(|(_, (_, value))| value.expose()).collect();
        let plain = vault.open(KIND, &format!("{purpose} {id}"), &Sealed::from_text(&sealed)?).ok()?;
        let Load { ends, what } = serde_json::from_str(plain.expose()).ok()?;
        let cookies = pieces.into_iter().map(|(_, (name, _))| name.clone()).collect();
        (ends > self.clock.wall_seconds()).then_some(Carried { what, cookies, id, ends })
    }

    /// Ends it. False where somebody else was quicker: what was found is then not this one's to use.
    ///
    /// # Errors
    /// The store's.
    pub async fn take<T>(&self, carried: &Carried<T>) -> Result<bool, StoreError> {
        let Carried { id, ends, .. } = carried;
        // Looked up first: where the store is away, nothing is under way to it that comes true later.
        if self.records.get(USED, id).await?.is_some() {
            return Ok(false);
        }
        let by = random().expose().to_owned();
        let used = Used { ends: *ends, by: by.clone() };
        let put = Write::put(USED, id.as_str(), &used, Expect::Absent)?;
        match self.records.commit(vec![put]).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => {
                let row = self.records.get(USED, id).await?;
                let used = row.and_then(|row| row.read::<Used>().ok());
                Ok(used.is_some_and(|used| used.by == by))
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets what nobody could come back with any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.wall_seconds();
        let is_over = |row: &store::Row| row.read::<Used>().is_ok_and(|used| used.ends <= now);
        store::sweep(&*self.records, LEFT, is_over).await?;
        store::sweep(&*self.records, USED, is_over).await
    }
}

/// Enough of a hash to tell the sign-ins of one browser apart.
fn tag_of(id: &str) -> &str {
    id.get(..16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hand;
    use crate::store::Store;
    use crate::vault::MasterKey;

    const LIFE: Duration = Duration::from_secs(600);

    fn house() -> (Carrier, Vault, Arc<Hand>) {
        let (clock, hand) = Clock::manual(1_800_000_000_000);
        let vault = Vault::new(vec![MasterKey::for_this_process()]).expect("a vault");
        (Carrier::new(Arc::new(Store::in_memory().expect("a store")), clock), vault, hand)
    }

    fn pack(house: &(Carrier, Vault, Arc<Hand>), what: &str, shown: &[Cookie]) -> Option<(Secret, Packed)> {
        let state = Carrier::state();
        let packed = house.0.pack(&house.1, ("gitee", &state), &what, LIFE, shown).expect("sealed");
        packed.map(|packed| (state, packed))
    }

    #[test]
    fn whoever_has_it_can_neither_read_nor_change_it() {
        let house = house();
        let (state, packed) = pack(&house, "CANARY", &[]).expect("it fits");
        let (state, shown) = (state.expose(), packed.keep);
        let open =
            |purpose, state, shown: &[Cookie]| house.0.open::<String>(&house.1, (purpose, state), shown);
        assert_eq!(open("gitee", state, &shown).map(|carried| carried.what).as_deref(), Some("CANARY"));
        assert!(open("gitea", state, &shown).is_none(), "for another provider");
        assert!(open("gitee", "made up", &shown).is_none() && open("gitee", state, &[]).is_none());
        let [(name, value)] = shown.as_slice() else { panic!("one cookie: {shown:?}") };
        let value = value.expose();
        assert!(value.len() < 500, "{} bytes", value.len());
        assert!(!value.contains("CANARY") && !value.contains(state) && !name.contains(state));
        let is_octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        assert!(
            value.bytes().chain(name.bytes()).all(is_octet),
            "what a cookie may be made of: {name}={value}"
        );
        // Any part of it changed, cut or put in another's place.
        for at in 0..value.len() {
            let mut other = value.as_bytes().to_vec();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("text");
            assert!(open("gitee", state, &[(name.clone(), Secret::new(other))]).is_none(), "byte {at}");
            let cut = Secret::new(&value[..at]);
            assert!(open("gitee", state, &[(name.clone(), cut)]).is_none(), "cut at {at}");
        }
        let (_, others) = pack(&house, "other", &[]).expect("it fits");
        assert!(open("gitee", state, &[(name.clone(), others.keep[0].1.clone())]).is_none(), "another's");
        let stranger = Vault::new(vec![MasterKey::for_this_process()]).expect("a vault");
        assert!(house.0.open::<String>(&stranger, ("gitee", state), &shown).is_none(), "another vault");
        // A name says when to forget it, and nothing else: the end that counts is inside.
        let tag = name.rsplit('.').nth(1).expect("a tag");
        let for_ever = [(format!("{CARRIED}.ffffffffff.{tag}.0"), Secret::new(value))];
        assert!(open("gitee", state, &for_ever).is_some());
        house.2.advance(LIFE);
        assert!(open("gitee", state, &for_ever).is_none() && open("gitee", state, &shown).is_none());
    }

    #[test]
    fn what_is_long_goes_in_pieces_and_what_is_too_long_does_not_go() {
        let house = house();
        // As long as what somebody may come back to from an app (see `gateway::provider::request`).
        let long = "x".repeat(4500);
        let (state, packed) = pack(&house, &long, &[]).expect("it fits");
        assert!((2..=4).contains(&packed.keep.len()), "{} cookies", packed.keep.len());
        assert!(packed.keep.iter().all(|(name, value)| name.len() + value.expose().len() <= 2100));
        let open = |shown: &[Cookie]| house.0.open::<String>(&house.1, ("gitee", state.expose()), shown);
        let mut shown = packed.keep;
        // Browsers send them in whatever order.
        shown.reverse();
        assert_eq!(
            open(&shown).map(|carried| (carried.what, carried.cookies.len())),
            Some((long, shown.len()))
        );
        shown.pop();
        assert!(open(&shown).is_none(), "a piece is missing");
        assert!(pack(&house, &"x".repeat(MAX_BYTES), &[]).is_none());
    }

    #[test]
    fn a_browser_carries_few_and_the_newest() {
        let house = house();
        let (mut jar, mut states) = (Vec::<Cookie>::new(), Vec::new());
        let add = |jar: &mut Vec<Cookie>, what: &str| {
            house.2.advance(Duration::from_secs(1));
            let (state, packed) = pack(&house, what, jar).expect("it fits");
            jar.retain(|(name, _)| !packed.drop.contains(name));
            jar.extend(packed.keep);
            state
        };
        for _ in 0..30 {
            states.push(add(&mut jar, "small"));
        }
        let is_there = |jar: &[Cookie], state: &Secret| {
            house.0.open::<String>(&house.1, ("gitee", state.expose()), jar).is_some()
        };
        assert_eq!(jar.len(), MAX_EACH);
        assert!(states.iter().rev().take(MAX_EACH).all(|state| is_there(&jar, state)));
        // Large ones push out what is older, whole, and nothing that is not in the way.
        let large = add(&mut jar, &"x".repeat(4500));
        assert!(is_there(&jar, &large) && is_there(&jar, &states[29]));
        let larger = add(&mut jar, &"y".repeat(4500));
        assert!(is_there(&jar, &larger) && !is_there(&jar, &large));
        let bytes: usize = jar.iter().map(|(_, value)| value.expose().len()).sum();
        assert!(bytes <= MAX_BYTES, "{bytes}");
        // What is none, or over, goes.
        jar.extend([
            (format!("{CARRIED}.x"), Secret::new("")),
            (format!("{CARRIED}.1.a.0"), Secret::new("x")),
        ]);
        house.2.advance(LIFE);
        let last = add(&mut jar, "last");
        assert!(jar.len() == 1 && is_there(&jar, &last));
    }

    #[tokio::test]
    async fn each_is_finished_once_and_forgotten_when_it_is_over() {
        let house = house();
        let (state, packed) = pack(&house, "x", &[]).expect("it fits");
        let open =
            || house.0.open::<String>(&house.1, ("gitee", state.expose()), &packed.keep).expect("open");
        let all = futures_util::future::join_all((0..20).map(|_| async { house.0.take(&open()).await }));
        let taken = all.await.into_iter().filter(|taken| matches!(taken, Ok(true))).count();
        assert_eq!(taken, 1);
        let kept = async || house.0.records.list(USED, None, 10).await.expect("read").len();
        house.0.sweep().await.expect("swept");
        assert_eq!(kept().await, 1);
        house.2.advance(LIFE);
        house.0.sweep().await.expect("swept");
        assert_eq!(kept().await, 0);
    }
}
