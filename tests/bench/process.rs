//! The measured processes: Weir with everything on, and nginx as a plain proxy, each pinned to the first core.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;

use super::load::Target;

/// Who is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The mock platform without anything between.
    Direct,
    Nginx,
    Weir(PathBuf),
}

impl Subject {
    pub fn name(&self) -> String {
        match self {
            Subject::Direct => "direct".into(),
            Subject::Nginx => "nginx".into(),
            Subject::Weir(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }
}

/// A running subject; killed when dropped.
pub struct Running {
    child: Option<Child>,
    pub target: Target,
    /// For streams that are translated; where nothing translates, the platform's own path.
    pub claude: Target,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Running {
    /// Starts `subject` in front of `platform` and waits until it listens.
    pub fn start(subject: &Subject, platform: SocketAddr) -> anyhow::Result<Self> {
        let (mut command, address, bearer, folder) = match subject {
            Subject::Direct => return Ok(Self::over(platform, "none", false, None, None)),
            Subject::Nginx => nginx(platform)?,
            Subject::Weir(binary) => weir(binary, platform)?,
        };
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        for _ in 0..400 {
            if TcpStream::connect(address).is_ok() {
                let is_weir = matches!(subject, Subject::Weir(_));
                return Ok(Self::over(address, &bearer, is_weir, Some(child), Some(folder)));
            }
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("{} ended at once: {status}", subject.name());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        drop(child.kill());
        anyhow::bail!("{} does not listen", subject.name())
    }

    fn over(
        address: SocketAddr,
        bearer: &str,
        is_weir: bool,
        child: Option<Child>,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let bearer: Rc<str> = bearer.into();
        let chat: Rc<str> = "/v1/chat/completions".into();
        let claude_path = if is_weir { Rc::clone(&chat) } else { "/v1/messages".into() };
        let target = Target { address, bearer: Rc::clone(&bearer), path: chat, model: "gpt-4o-mini".into() };
        let claude = Target { address, bearer, path: claude_path, model: "claude-haiku-4-5".into() };
        Self { child, target, claude, _folder: folder }
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let Some(child) = &self.child else { return Ok(Duration::ZERO) };
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", child.id()))? {
            // Nanoseconds on a processor: finer than the ticks in `stat`.
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Memory held, in KiB: resident.
    pub fn memory_kib(&self) -> anyhow::Result<u64> {
        let Some(child) = &self.child else { return Ok(0) };
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id()))?;
        let rss = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss line")?;
        Ok(rss.trim().trim_end_matches(" kB").parse()?)
    }
}

fn has(tool: &str) -> bool {
    Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Whether the floor can be measured here.
pub fn has_nginx() -> bool {
    has("nginx")
}

/// Whether processes can be pinned to cores: the tool is there and the machine has two.
pub fn can_pin() -> bool {
    has("taskset") && std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

/// Leaves the first core to the measured process.
pub fn pin_self() -> anyhow::Result<()> {
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", "1", &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()?;
    anyhow::ensure!(pinned.success(), "taskset cannot pin this process to core 1");
    Ok(())
}

fn pinned(program: &Path) -> Command {
    if !can_pin() {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

type Prepared = (Command, SocketAddr, String, tempfile::TempDir);

fn nginx(platform: SocketAddr) -> anyhow::Result<Prepared> {
    let folder = tempfile::tempdir()?;
    let address = free_port()?;
    let mut paths = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(paths, "  {kind}_temp_path {}/{kind};", folder.path().display())?;
    }
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         error_log stderr crit;\npid {folder}/nginx.pid;\nevents {{ worker_connections 16384; }}\n\
         http {{\n{paths}  access_log off;\n  keepalive_requests 1000000000;\n\
         upstream platform {{ server {platform}; keepalive 4096; keepalive_requests 1000000000; }}\n\
         server {{\n    listen {address};\n    location / {{\n      proxy_pass http://platform;\n\
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_buffering off;\n\
         proxy_read_timeout 600s;\n    }}\n  }}\n}}\n",
        folder = folder.path().display()
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = pinned(Path::new("nginx"));
    command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&file);
    Ok((command, address, "none".into(), folder))
}

/// High enough never to refuse, but counted all the same.
const LIMITS: &str = "{rpm: 100000000, tpm: 100000000000, concurrency: 100000, daily_requests: 10000000000, \
                      daily_tokens: 10000000000000, burst: 10000000}";

fn weir(binary: &Path, platform: SocketAddr) -> anyhow::Result<Prepared> {
    let folder = tempfile::tempdir()?;
    let (address, admin) = (free_port()?, free_port()?);
    let mut accounts = String::new();
    for platform in ["openai", "claude"] {
        for number in 0..4 {
            writeln!(
                accounts,
                "  - {{id: {platform}-{number}, platform: {platform}, api_key: sk-bench-{number}, limits: {LIMITS}}}"
            )?;
        }
    }
    let text = format!(
        "listen: {address}\nadmin_listen: {admin}\nstore: embedded:{folder}/store\nworkers: 1\n\
         log: {{level: info, format: json}}\n\
         auth: {{jwt: [{{issuer: bench, audience: weir, secret: \"{secret}\", algorithms: [HS256], claims: {{tenant: tenant}}}}]}}\n\
         callers: {{default: {LIMITS}}}\n\
         platforms:\n  openai: {{base_url: \"http://{platform}/v1\"}}\n  claude: {{base_url: \"http://{platform}/v1\"}}\n\
         accounts:\n{accounts}\
         routes:\n  - {{model: \"gpt-*\", targets: [{{platform: openai}}]}}\n  - {{model: \"claude-*\", targets: [{{platform: claude}}]}}\n",
        folder = folder.path().display(),
        secret = "a-secret-for-benchmarks-only-0123456789",
    );
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, text)?;
    let minted = Command::new(binary)
        .args(["token", "--sub", "bench", "--tenant", "bench", "-c"])
        .arg(&file)
        .output()
        .context("weir token")?;
    anyhow::ensure!(minted.status.success(), "weir token: {}", String::from_utf8_lossy(&minted.stderr));
    let bearer = String::from_utf8(minted.stdout)?.trim().to_owned();
    let mut command = pinned(binary);
    command.arg("serve").arg("-c").arg(&file);
    Ok((command, address, bearer, folder))
}
