//! How many sign-ins by a typed-in code one who begins them has under way. A row of their own names them, and whoever wants one more
//! writes it there, on condition that nobody was quicker, before any provider is asked: so the bound holds, however many ask at once, of
//! however many gateways. A process that dies in between leaves a place that counts for a while and is then free.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::device::{DEVICES, Kept, MAX_LIFE};
use crate::clock::Clock;
use crate::store::{self, Expect, Name, Records, Row, StoreError, Write};

const TABLE: Name = "device_places";

/// A place with no sign-in (yet) counts so long, in milliseconds: much longer than a provider may take.
const ASKING: u64 = 120_000;

/// How often one tries that others outrun: each time one of them got on.
const TRIES: usize = 64;

/// One sign-in that is under way, or about to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    /// Of the sign-in's row.
    id: String,
    /// Milliseconds since 1970.
    since: u64,
}

/// See the module.
pub(super) struct Places<'a> {
    records: &'a Arc<dyn Records>,
    clock: &'a Clock,
}

impl<'a> Places<'a> {
    /// In this store.
    pub(super) fn new(records: &'a Arc<dyn Records>, clock: &'a Clock) -> Self {
        Self { records, clock }
    }

    /// Takes a place for the sign-in that is to be kept under `id`, of at most `most`. Otherwise gives back when, in seconds since
    /// 1970, it is worth trying again.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn take(
        &self,
        owner: &str,
        id: &str,
        most: usize,
    ) -> Result<Result<(), u64>, StoreError> {
        for _ in 0..TRIES {
            let (mut places, expect) = self.read(owner).await?;
            // What was taken for somebody else's change was this very one (see `Records::commit`).
            if places.iter().any(|place| place.id == id) {
                return Ok(Ok(()));
            }
            if places.len() >= most {
                let left = self.living(places).await?;
                if left.len() >= most {
                    let first = left.iter().map(|(_, ends)| *ends).min();
                    return Ok(Err(first.unwrap_or_else(|| self.clock.wall_seconds())));
                }
                places = left.into_iter().map(|(place, _)| place).collect();
            }
            places.push(Place { id: id.to_owned(), since: self.clock.wall_millis() });
            match self.write(owner, &places, expect).await {
                Ok(()) => return Ok(Ok(())),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Err(self.clock.wall_seconds() + 1))
    }

    /// Gives a place back of which nothing came.
    pub(super) async fn leave(&self, owner: &str, id: &str) {
        for _ in 0..TRIES {
            let work = async {
                let (mut places, expect) = self.read(owner).await?;
                places.retain(|place| place.id != id);
                self.write(owner, &places, expect).await
            };
            match work.await {
                Ok(()) => return,
                Err(StoreError::Conflict) => {}
                Err(error) => {
                    tracing::debug!(%error, "a place for a sign-in is given back by time alone");
                    return;
                }
            }
        }
    }

    /// How many places are taken, and when the first of them is free by itself, in seconds since 1970.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn taken(&self, owner: &str) -> Result<(usize, u64), StoreError> {
        let living = self.living(self.read(owner).await?.0).await?;
        let first = living.iter().map(|(_, ends)| *ends).min();
        Ok((living.len(), first.unwrap_or_else(|| self.clock.wall_seconds())))
    }

    /// Forgets those of whom nothing can be under way any more.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.wall_millis();
        let is_over = |place: &Place| place.since + ASKING + MAX_LIFE * 1000 <= now;
        let all_over = |row: &Row| row.read::<Vec<Place>>().map_or(true, |places| places.iter().all(is_over));
        store::sweep(&**self.records, TABLE, all_over).await
    }

    async fn read(&self, owner: &str) -> Result<(Vec<Place>, Expect), StoreError> {
        match self.records.get(TABLE, owner).await? {
            Some(row) => Ok((row.read()?, Expect::Version(row.version))),
            None => Ok((Vec::new(), Expect::Absent)),
        }
    }

    async fn write(&self, owner: &str, places: &[Place], expect: Expect) -> Result<(), StoreError> {
        let put = Write::put(TABLE, owner, places, expect)?;
        self.records.commit(vec![put]).await.map(drop)
    }

    /// Those that still count, and until when. What has ended is told for a while, and takes nobody's place.
    async fn living(&self, places: Vec<Place>) -> Result<Vec<(Place, u64)>, StoreError> {
        let (now, millis) = (self.clock.wall_seconds(), self.clock.wall_millis());
        let rows = places.iter().map(|place| self.records.get(DEVICES, &place.id));
        let rows = futures_util::future::try_join_all(rows).await?;
        let until = |place: &Place, row: Option<Row>| match row {
            // Nobody has the provider's answer yet. A moment in the future is another machine's wrong clock.
            None => (place.since <= millis + ASKING && millis < place.since + ASKING)
                .then(|| (place.since + ASKING).div_ceil(1000)),
            Some(row) => match row.read::<Kept>() {
                Ok(kept) => kept.is_under_way(now).then_some(kept.ends),
                // Of a newer version, which knows.
                Err(_) => Some(place.since / 1000 + MAX_LIFE).filter(|ends| *ends > now),
            },
        };
        let all = places.into_iter().zip(rows);
        Ok(all.filter_map(|(place, row)| until(&place, row).map(|ends| (place, ends))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::clock::Hand;
    use crate::store::Store;

    fn house() -> (Arc<dyn Records>, Clock, Arc<Hand>) {
        let (clock, hand) = Clock::manual(1_700_000_000_000);
        (Arc::new(Store::in_memory().expect("a store")), clock, hand)
    }

    async fn keep(records: &Arc<dyn Records>, id: &str, ends: u64, outcome: serde_json::Value) {
        let row = json!({
            "beginner": {"tenant": null, "who": "x"}, "ends": ends, "next": 0, "pace": 1000, "outcome": outcome,
            "what": {"key": "k", "wrapped": "", "data": ""},
        });
        let sealed = row.to_string().into_bytes();
        let write = Write::Put { table: DEVICES, id: id.to_owned(), value: sealed, expect: Expect::Anything };
        records.commit(vec![write]).await.expect("kept");
    }

    #[tokio::test]
    async fn however_many_want_one_at_once_there_are_so_many() {
        let (records, clock, _) = house();
        let places = Places::new(&records, &clock);
        let ids: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let all = join_all(ids.iter().map(|id| places.take("ann", id, 20))).await;
        assert_eq!(all.iter().filter(|taken| matches!(taken, Ok(Ok(())))).count(), 20);
        let first = clock.wall_seconds() + ASKING / 1000;
        assert!(
            all.iter()
                .all(|taken| matches!(taken, Ok(Ok(()))) || matches!(taken, Ok(Err(at)) if *at == first))
        );
        assert!(matches!(places.take("bob", "b", 20).await, Ok(Ok(()))), "bob is not ann");
    }

    #[tokio::test]
    async fn a_place_of_a_process_that_died_is_free_after_a_while() {
        let (records, clock, hand) = house();
        let places = Places::new(&records, &clock);
        assert!(matches!(places.take("ann", "a", 1).await, Ok(Ok(()))));
        hand.advance(Duration::from_millis(ASKING - 1));
        assert!(matches!(places.take("ann", "b", 1).await, Ok(Err(_))));
        hand.advance(Duration::from_millis(1));
        assert!(matches!(places.take("ann", "b", 1).await, Ok(Ok(()))));
        // Given back by hand, at once; somebody else's stays.
        places.leave("ann", "a").await;
        assert!(matches!(places.take("ann", "c", 1).await, Ok(Err(_))));
        places.leave("ann", "b").await;
        assert!(matches!(places.take("ann", "c", 1).await, Ok(Ok(()))));
    }

    #[tokio::test]
    async fn what_has_ended_takes_no_place_and_hides_none() {
        let (records, clock, hand) = house();
        let places = Places::new(&records, &clock);
        let ends = clock.wall_seconds() + 900;
        // Long lists of what is over, in front of what is not.
        for number in 0..300 {
            keep(&records, &format!("ann.{number:03}"), ends, json!("denied")).await;
        }
        for id in ["ann.x", "ann.y"] {
            assert!(matches!(places.take("ann", id, 2).await, Ok(Ok(()))));
            keep(&records, id, ends, json!(null)).await;
        }
        // Longer than a place without a sign-in would count.
        hand.advance(Duration::from_secs(600));
        assert!(matches!(places.taken("ann").await, Ok((2, at)) if at == ends));
        assert!(matches!(places.take("ann", "z", 2).await, Ok(Err(at)) if at == ends));
        keep(&records, "ann.x", ends, json!("denied")).await;
        assert!(matches!(places.take("ann", "z", 2).await, Ok(Ok(()))), "one has ended");
        assert!(matches!(places.take("ann", "zz", 2).await, Ok(Err(_))));
        hand.advance(Duration::from_secs(301));
        assert!(matches!(places.taken("ann").await, Ok((0, _))), "nobody came in time");
        places.sweep().await.expect("swept");
        assert!(records.get(TABLE, "ann").await.expect("read").is_some(), "not as long as it could count");
        hand.advance(Duration::from_secs(MAX_LIFE + ASKING / 1000));
        places.sweep().await.expect("swept");
        assert!(records.get(TABLE, "ann").await.expect("read").is_none());
    }
}
