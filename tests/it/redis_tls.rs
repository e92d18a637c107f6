//! TLS towards Redis, with real servers and authorities of our own: who is trusted, who is not, and what is said then.

use std::path::PathBuf;

use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::house::{House, WEIR, question, until};
use super::replicas::{Redis, account, status, until_status};

/// An authority of our own, and a folder for what it signs.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key` for these hosts.
    fn sign(&self, name: &str, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.file(&format!("{name}.pem")), made.pem()).expect("written");
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).expect("written");
    }

    /// A server's arguments for its certificate `NAME`.
    fn arguments(&self, name: &str, more: &[&str]) -> Vec<String> {
        let path = |file: String| self.file(&file).to_str().expect("text").to_owned();
        let mut words = vec!["--tls-cert-file".to_owned(), path(format!("{name}.pem"))];
        words.extend(["--tls-key-file".to_owned(), path(format!("{name}.key"))]);
        words.extend(["--tls-ca-cert-file".to_owned(), path("ca.pem".to_owned())]);
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    }

    fn start(&self, name: &str, more: &[&str]) -> Redis {
        let words = self.arguments(name, more);
        Redis::start(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// A fragment whose store has this URL.
fn fragment(url: &str) -> String {
    let key = "ab".repeat(32);
    format!(
        "store: \"{url}\"\nvault: {{keys: [{{id: k1, key: \"{key}\"}}]}}\n{}",
        account("daily_requests: 100")
    )
}

async fn asks(house: &House) -> u16 {
    status(house.request(&question("openai/gpt-4o", "hi", false))).await
}

/// What a command says that needs the store at `url`, and cannot use it.
async fn refusal(house: &House, url: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, house.complete(&fragment(url))).expect("written");
    let mut command = std::process::Command::new(WEIR);
    command.args(["key", "list", "-c"]).arg(file);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("it runs");
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{told}");
    told
}

/// A server whose certificate we can trust is used, by its address and its name, and with a certificate of ours.
#[tokio::test]
async fn a_server_that_is_trusted_is_used() {
    let ours = Authority::new("ours");
    ours.sign("server", &["127.0.0.1", "localhost"]);
    ours.sign("weir", &["weir"]);
    let (ca, cert, key) = (ours.file("ca.pem"), ours.file("weir.pem"), ours.file("weir.key"));
    let files = format!("ca={}", ca.display());
    let ours_too = format!("{files}&cert={}&key={}", cert.display(), key.display());
    let server = ours.start("server", &["--tls-auth-clients", "no"]);
    let mutual = ours.start("server", &["--tls-auth-clients", "yes"]);
    let cluster = ours
        .start("server", &["--tls-auth-clients", "no", "--cluster-enabled", "yes", "--tls-cluster", "yes"]);
    let cli = |words: &[&str]| {
        let mut command = std::process::Command::new("redis-cli");
        command.args(["--tls", "--cacert"]).arg(&ca).args(["-p", &cluster.port.to_string()]).args(words);
        String::from_utf8_lossy(&command.output().expect("redis-cli runs").stdout).into_owned()
    };
    cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("the cluster is whole", || async { cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") }).await;
    let words =
        ours.arguments("server", &["--sentinel", "--tls-replication", "yes", "--tls-auth-clients", "no"]);
    let watched = ours.file("sentinel.conf");
    std::fs::write(&watched, format!("sentinel monitor main 127.0.0.1 {} 1\n", server.port))
        .expect("written");
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.insert(0, watched.to_str().expect("text"));
    let sentinel = Redis::start(&words);
    let urls = [
        format!("rediss://127.0.0.1:{}?{files}", server.port),
        format!("rediss://localhost:{}?{files}", server.port),
        format!("rediss://127.0.0.1:{}?{ours_too}", mutual.port),
        format!("redis-cluster://127.0.0.1:{}?tls=true&{files}", cluster.port),
        format!("redis-sentinel://127.0.0.1:{}/main?tls=true&{files}", sentinel.port),
    ];
    for url in urls {
        let house = House::start(&fragment(&url)).await;
        assert_eq!(asks(&house).await, 200, "{url}");
    }
}

/// Whoever cannot be trusted is not spoken to, and what to do about it is said.
#[tokio::test]
async fn a_server_that_is_not_trusted_is_refused_and_why_is_told() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    ours.sign("server", &["127.0.0.1"]);
    ours.sign("elsewhere", &["redis.example"]);
    theirs.sign("weir", &["weir"]);
    let server = ours.start("server", &["--tls-auth-clients", "no"]);
    let elsewhere = ours.start("elsewhere", &["--tls-auth-clients", "no"]);
    let mutual = ours.start("server", &["--tls-auth-clients", "yes"]);
    let plain = Redis::start(&[]);
    let (good, bad) = (ours.file("ca.pem"), theirs.file("ca.pem"));
    let (good, bad) = (good.display(), bad.display());
    let pair =
        format!("cert={}&key={}", theirs.file("weir.pem").display(), theirs.file("weir.key").display());
    let house = House::start("").await;
    let cases = [
        (format!("rediss://127.0.0.1:{}", server.port), "not signed by an authority that is trusted here"),
        (format!("rediss://127.0.0.1:{}?ca={bad}", server.port), "name its authority's file: `?ca=FILE`"),
        (
            format!("rediss://127.0.0.1:{}?ca={good}", elsewhere.port),
            "is for another name than the one in the store's URL",
        ),
        (
            format!("rediss://127.0.0.1:{}?ca={good}", mutual.port),
            "wants a certificate of ours: `?cert=FILE&key=FILE`",
        ),
        (
            format!("rediss://127.0.0.1:{}?ca={good}&{pair}", mutual.port),
            "Redis does not trust our certificate",
        ),
        (format!("rediss://127.0.0.1:{}?ca={good}", plain.port), "speaks no TLS on this port"),
        (format!("redis://127.0.0.1:{}", server.port), "does it want TLS"),
        (format!("rediss://127.0.0.1:{}?ca=/nowhere/ca.pem", server.port), "/nowhere/ca.pem (No such file"),
        (
            format!("rediss://127.0.0.1:{}?ca={}", server.port, ours.file("server.key").display()),
            "holds no certificate",
        ),
    ];
    let told = join_all(cases.iter().map(|(url, _)| refusal(&house, url))).await;
    let wrong = cases.iter().zip(&told).filter(|((_, wanted), told)| !told.contains(wanted));
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Certificates are renewed while gateways run, also by another authority.
#[tokio::test]
async fn files_that_are_renewed_are_read_again() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    old.sign("server", &["127.0.0.1"]);
    new.sign("server", &["127.0.0.1"]);
    let mut server = old.start("server", &["--tls-auth-clients", "no"]);
    let url = format!("rediss://127.0.0.1:{}?ca={}", server.port, old.file("ca.pem").display());
    let house = House::start(&fragment(&url)).await;
    assert_eq!(asks(&house).await, 200);
    server.kill();
    for name in ["server.pem", "server.key"] {
        std::fs::copy(new.file(name), old.file(name)).expect("copied");
    }
    assert!(server.launch());
    until("the new authority is not trusted", || async {
        house.log().contains("not signed by an authority that is trusted here")
    })
    .await;
    std::fs::copy(new.file("ca.pem"), old.file("ca.pem")).expect("copied");
    until_status(&house, 200, 429, super::house::PATIENCE).await;
}
