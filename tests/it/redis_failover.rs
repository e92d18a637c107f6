//! A Redis that takes over from another: found without help, and told what it may have missed. The oracle is the simulated
//! platform's own count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::house::{House, PATIENCE, start_fake, until};
use super::proxy::Proxy;
use super::replicas::{Redis, account, count, question_of, replicas, status, store};

fn replica_of(port: u16) -> Redis {
    Redis::start(&["--replicaof", "127.0.0.1", &port.to_string()])
}

async fn follows(replica: &Redis) {
    until("it follows", || async {
        replica.tell(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
}

/// Asks both, many at once, until neither serves.
async fn use_up(houses: &[House]) -> usize {
    let body = question_of(100, "hi");
    let deadline = Instant::now() + PATIENCE;
    let (mut served, mut refusals) = (0, 0);
    while refusals < 3 {
        assert!(Instant::now() < deadline, "never used up: {served}");
        let statuses =
            join_all((0..20).map(|number| status(houses[number % houses.len()].request(&body)))).await;
        let now = count(&statuses, 200);
        refusals = if now == 0 && count(&statuses, 429) == 20 { refusals + 1 } else { 0 };
        served += now;
    }
    served
}

/// Q7: a replica that had heard nothing for a while takes over. The living gateways tell it what it missed before anybody is
/// given more, also the one that finds it a moment later than the other, and a day's quota is not handed out twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_replica_that_takes_over_is_told_what_it_missed() {
    const LIMIT: usize = 120;
    let master = Redis::start(&[]);
    let between = Proxy::to(master.port).await;
    let replica = replica_of(between.port);
    follows(&replica).await;
    let fake = start_fake("");
    let (mut lines, mut houses) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let line = Proxy::to(master.port).await;
        let limits = account(&format!("daily_requests: {LIMIT}, concurrency: 50"));
        houses.push(House::start_beside(fake, &format!("{}{limits}", store(line.port)), &[]).await);
        lines.push(line);
    }
    let body = question_of(100, "hi");
    for number in 0..20 {
        assert_eq!(status(houses[number % 2].request(&body)).await, 200);
    }
    until("the replica knows of it", || async {
        replica.tell(&["KEYS", "*daily_requests*"]).contains("acct:a")
    })
    .await;
    between.stall(true);
    assert_eq!(20 + use_up(&houses).await, LIMIT);
    // What was spent since is known to the gateways alone.
    between.cut();
    drop(master);
    assert_eq!(replica.tell(&["REPLICAOF", "NO", "ONE"]), "OK");
    let switch = async {
        for line in &lines {
            line.lead_to(replica.port);
            sleep(Duration::from_millis(250)).await;
        }
    };
    let until = Instant::now() + Duration::from_secs(3);
    let press = async {
        while Instant::now() < until {
            join_all((0..16).map(|number| status(houses[number % 2].request(&body)))).await;
        }
    };
    tokio::join!(switch, press, press_alone(&houses[0], until));
    assert_eq!(houses[0].counted("openai", "requests").await, LIMIT as u64);
    for house in &houses {
        assert_eq!(house.metric("weir_panics_total").await, 0.0);
    }
}

/// One house is asked by itself, too: it need not wait for the other's answers.
async fn press_alone(house: &House, until: Instant) {
    let body = question_of(100, "hi");
    while Instant::now() < until {
        join_all((0..8).map(|_| status(house.request(&body)))).await;
    }
}

/// A master, its replicas, and the Sentinels that watch over them.
struct Watched {
    master: Redis,
    replicas: Vec<Redis>,
    sentinels: Vec<Redis>,
    _folder: tempfile::TempDir,
}

impl Watched {
    async fn start() -> Self {
        let master = Redis::start(&[]);
        let replicas: Vec<Redis> = (0..2).map(|_| replica_of(master.port)).collect();
        for replica in &replicas {
            follows(replica).await;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let sentinels: Vec<Redis> = (0..3)
            .map(|number| {
                let file = folder.path().join(format!("{number}.conf"));
                let text = format!(
                    "sentinel monitor main 127.0.0.1 {} 2\nsentinel down-after-milliseconds main 700\n\
                     sentinel failover-timeout main 5000\n",
                    master.port
                );
                std::fs::write(&file, text).expect("written");
                Redis::start(&[file.to_str().expect("text"), "--sentinel"])
            })
            .collect();
        let watched = Self { master, replicas, sentinels, _folder: folder };
        until("the Sentinels know each other and the replicas", || async {
            watched.sentinels.iter().all(|sentinel| {
                let told = sentinel.tell(&["SENTINEL", "MASTER", "main"]).replace('\n', " ");
                told.contains("num-other-sentinels 2 ") && told.contains("num-slaves 2 ")
            })
        })
        .await;
        watched
    }

    fn store(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        store(0).replace("redis://127.0.0.1:0", &format!("redis-sentinel://{}/main", hosts.join(",")))
    }

    /// Waits until one of the replicas is the master.
    async fn promotion(&self) -> Instant {
        until("a replica is promoted", || async {
            self.replicas.iter().any(|replica| replica.tell(&["ROLE"]).starts_with("master"))
        })
        .await;
        Instant::now()
    }
}

/// Asks one house without a pause, and notes when it was served.
async fn press(house: &House, is_over: &AtomicBool) -> Vec<(Instant, u16)> {
    let body = question_of(100, "hi");
    let mut seen = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let began = Instant::now();
        seen.push((began, status(house.request(&body)).await));
        assert!(began.elapsed() < Duration::from_secs(3), "a request hung");
        sleep(Duration::from_millis(20)).await;
    }
    seen
}

/// The gateways find the new master by themselves, within two seconds of its promotion, and no limit is passed. One of the
/// Sentinels hangs all the while.
async fn sentinels_lead_to_the_new_master(trouble: impl FnOnce(&mut Redis)) {
    let mut watched = Watched::start().await;
    let limit = 400;
    let fragment =
        format!("{}{}", watched.store(), account(&format!("daily_requests: {limit}, concurrency: 50")));
    let houses = replicas(2, &fragment).await;
    // The first in everybody's list answers nobody any more.
    watched.sentinels[0].signal("STOP");
    let is_over = Arc::new(AtomicBool::new(false));
    let trouble = async {
        sleep(Duration::from_millis(700)).await;
        let began = Instant::now();
        trouble(&mut watched.master);
        let promoted = watched.promotion().await;
        println!("promoted {:?} after the trouble began", promoted - began);
        sleep(Duration::from_millis(2_500)).await;
        is_over.store(true, Ordering::SeqCst);
        promoted
    };
    let (promoted, one, two) =
        tokio::join!(trouble, press(&houses[0], &is_over), press(&houses[1], &is_over));
    for seen in [&one, &two] {
        let mut outage = seen.iter().filter(|(began, _)| *began < promoted);
        assert!(outage.any(|(_, found)| *found == 503), "there was no outage: {seen:?}");
        assert!(seen.iter().all(|(_, found)| [200, 429, 503].contains(found)), "{seen:?}");
        let first = seen.iter().find(|(began, found)| *began >= promoted && *found == 200);
        let first = first.expect("served again").0 - promoted;
        println!("served {first:?} after the promotion");
        assert!(first < Duration::from_secs(2), "{first:?}");
    }
    watched.sentinels[0].signal("CONT");
    use_up(&houses).await;
    let served = houses[0].counted("openai", "requests").await;
    assert_eq!(served, limit, "all of it, and nothing more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_from_a_dead_master_to_the_new_one() {
    sentinels_lead_to_the_new_master(Redis::kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_from_a_silent_master_to_the_new_one() {
    sentinels_lead_to_the_new_master(|master| master.signal("STOP")).await;
}
