//! One sign-in, from the login page to what the site leaves. It watches and waits; what is done on the page, a person does.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use url::Url;

use super::BrowserError;
use super::gate::{self, TurnedAway};
use super::haul::{Found, Haul, look};
use super::line::{Events, Line, LineError};
use super::pages::Pages;
use super::stage::{Notice, Phase, Stage};
use crate::browser::site::Site;

/// Between two looks at where the person is by now.
const LOOK: Duration = Duration::from_millis(300);

/// How long what the row expects of the login page may take to be there; a third of a time limit that is shorter.
const EXPECTED_WITHIN: Duration = Duration::from_secs(30);

/// How long what the site leaves may take to be there, once the person has come to where it should be; a third of a time limit that is
/// shorter.
const LEFT_WITHIN: Duration = Duration::from_secs(15);

/// A relayed browser that nobody looks at is closed after so long; half of a time limit that is shorter.
const UNATTENDED: Duration = Duration::from_secs(120);

/// How long a notice stands.
const NOTICED: Duration = Duration::from_secs(10);

/// Longest refusal that is told.
const MAX_WORDS: usize = 120;

/// Opens the site's login page and waits until its person is signed in. `time_limit` is kept by whoever calls, who also closes the browser.
///
/// # Errors
/// See [`BrowserError`].
pub async fn sign_in(
    line: &Line,
    events: Events,
    site: Arc<Site>,
    stage: &mut Stage,
    is_relayed: bool,
    time_limit: Duration,
) -> Result<Haul, BrowserError> {
    let (turned_away, news) = mpsc::channel(16);
    // They end with the set, whatever ends this.
    let mut tasks = JoinSet::new();
    tasks.spawn(gate::keep(line.clone(), Arc::clone(&site), events.gate, turned_away));
    let context = prepare(line).await?;
    let watch = Watch {
        pages: Pages::new(line.clone(), context.clone(), is_relayed),
        line: line.clone(),
        site,
        context,
        time_limit,
        tasks,
        opened: None,
        landed: None,
        is_expected: false,
        arrived: None,
        lonely_since: Instant::now(),
        turned_away: None,
        noticed: None,
    };
    watch.run(events.rest, news, stage).await
}

/// A context of its own, which is kept in memory only; nothing to be downloaded; the gate before every request; word of every page.
async fn prepare(line: &Line) -> Result<String, BrowserError> {
    let pages = json!([{"type": "page"}, {"exclude": true}]);
    line.ask(None, "Target.setDiscoverTargets", json!({"discover": true, "filter": pages})).await?;
    let made = line.ask(None, "Target.createBrowserContext", json!({"disposeOnDetach": true})).await?;
    let context = made.get("browserContextId").and_then(Value::as_str).ok_or(BrowserError::Died)?.to_owned();
    let no_downloads = json!({"behavior": "deny", "browserContextId": context});
    line.ask(None, "Browser.setDownloadBehavior", no_downloads).await?;
    let everything = json!({"patterns": [{"urlPattern": "*"}]});
    line.ask(None, "Fetch.enable", everything).await?;
    line.tell(None, "Target.createTarget", json!({"url": "about:blank", "browserContextId": context}));
    Ok(context)
}

struct Watch {
    pages: Pages,
    line: Line,
    site: Arc<Site>,
    context: String,
    time_limit: Duration,
    tasks: JoinSet<()>,
    /// Since when the login page has been there.
    opened: Option<Instant>,
    /// Where it is, without what follows `?` and `#`.
    landed: Option<String>,
    /// Whether what the row expects of it has been seen.
    is_expected: bool,
    /// Since when the person has been where the site should have left what is waited for.
    arrived: Option<Instant>,
    lonely_since: Instant,
    /// The last host that the browser was not let to.
    turned_away: Option<String>,
    noticed: Option<Instant>,
}

impl Watch {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<super::line::Event>,
        mut news: mpsc::Receiver<TurnedAway>,
        stage: &mut Stage,
    ) -> Result<Haul, BrowserError> {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (opening, mut opened) = mpsc::channel(1);
        let mut has_begun = false;
        loop {
            tokio::select! {
                event = events.recv() => {
                    let event = event.ok_or(BrowserError::Died)?;
                    if event.method == "Target.targetCrashed" {
                        return Err(BrowserError::Died);
                    }
                    self.pages.take(&event, stage);
                    if has_begun && self.pages.is_empty() {
                        return Err(BrowserError::Closed);
                    }
                    if !has_begun && !self.pages.is_empty() {
                        has_begun = true;
                        self.begin(opening.clone());
                    }
                }
                Some(answer) = opened.recv() => self.opened(answer, &mut news, stage)?,
                // What the person does while nothing is done with it here is nothing to anybody.
                Some(input) = stage.inputs.recv() => self.pages.act(input, stage),
                Some(away) = news.recv() => self.tell_turned_away(away, stage),
                _ = ticks.tick() => {
                    if let Some(haul) = self.look(stage).await? {
                        return Ok(haul);
                    }
                }
            }
        }
    }

    /// Opens the login page, on a task of its own: the answer comes when the page does, and what happens until then must be seen.
    fn begin(&mut self, opening: mpsc::Sender<Result<Value, LineError>>) {
        let session = self.pages.sessions().into_iter().next();
        let (line, url) = (self.line.clone(), self.site.login_url.to_string());
        self.tasks.spawn(async move {
            let answer = line.ask(session.as_deref(), "Page.navigate", json!({"url": url})).await;
            drop(opening.send(answer).await);
        });
    }

    fn opened(
        &mut self,
        answer: Result<Value, LineError>,
        news: &mut mpsc::Receiver<TurnedAway>,
        stage: &Stage,
    ) -> Result<(), BrowserError> {
        let why = match answer {
            Ok(answer) => answer.get("errorText").and_then(Value::as_str).unwrap_or_default().to_owned(),
            Err(LineError::Gone) => return Err(BrowserError::Died),
            Err(LineError::Late) => "it does not answer".to_owned(),
            Err(LineError::Refused(words)) => words,
        };
        // Word of a page that was turned away may be on its way still.
        while let Ok(away) = news.try_recv() {
            self.turned_away = Some(away.host);
        }
        match (why.as_str(), &self.turned_away) {
            ("", _) => {
                self.opened = Some(Instant::now());
                stage.view.send_modify(|view| view.phase = Phase::Waiting);
                Ok(())
            }
            ("net::ERR_ABORTED", Some(host)) => Err(BrowserError::Unreachable(format!(
                "it leads to {host}, which is not among the `hosts` of its row"
            ))),
            (why, _) => Err(BrowserError::Unreachable(why.chars().take(MAX_WORDS).collect())),
        }
    }

    fn tell_turned_away(&mut self, TurnedAway { host, page }: TurnedAway, stage: &Stage) {
        if let Some(page) = page {
            self.pages.close_if_blank(&page);
        }
        self.turned_away = Some(host.clone());
        self.note(Some(Notice::TurnedAway(host)), stage);
    }

    fn note(&mut self, notice: Option<Notice>, stage: &Stage) {
        self.noticed = notice.is_some().then(Instant::now);
        stage.view.send_modify(|view| view.notice = notice);
    }

    /// What is due now and then: is the page what it should be, is the person signed in, is anybody there?
    async fn look(&mut self, stage: &Stage) -> Result<Option<Haul>, BrowserError> {
        if self.pages.is_watched(stage) {
            self.lonely_since = Instant::now();
        } else if self.lonely_since.elapsed() > UNATTENDED.min(self.time_limit / 2) {
            return Err(BrowserError::Unattended);
        }
        if self.noticed.is_some_and(|since| since.elapsed() > NOTICED) {
            self.note(None, stage);
        }
        let Some(opened) = self.opened else { return Ok(None) };
        self.expect(opened, stage).await?;
        self.take(stage).await
    }

    /// Looks for what the row expects of the login page, until it has been seen once, or the person has gone on from there.
    async fn expect(&mut self, opened: Instant, stage: &Stage) -> Result<(), BrowserError> {
        let bare = |url: &Url| format!("{}{}", url.origin().ascii_serialization(), url.path());
        let here = self.pages.addresses().map(|(_, url)| url).find(|url| url.has_host()).map(bare);
        if let Some(here) = here {
            self.is_expected |= *self.landed.get_or_insert_with(|| here.clone()) != here;
        }
        let Some(selector) = self.site.expect.clone().filter(|_| !self.is_expected) else { return Ok(()) };
        let quoted = Value::from(selector.as_str()).to_string();
        let question = json!({"expression": format!("!!document.querySelector({quoted})"), "returnByValue": true, "timeout": 2000});
        for session in self.pages.sessions() {
            let asked = self.line.ask(Some(&session), "Runtime.evaluate", question.clone()).await;
            let is_there = asked.is_ok_and(|answer| answer.pointer("/result/value") == Some(&true.into()));
            if is_there {
                self.is_expected = true;
                stage.view.send_if_modified(|view| {
                    view.notice.take_if(|notice| *notice == Notice::LooksOdd).is_some()
                });
                return Ok(());
            }
        }
        let limit = EXPECTED_WITHIN.min(self.time_limit / 3);
        if opened.elapsed() > limit {
            return Err(BrowserError::Unexpected(selector));
        }
        if opened.elapsed() > limit / 3 && self.noticed.is_none() {
            self.note(Some(Notice::LooksOdd), stage);
        }
        Ok(())
    }

    /// Takes what the site left, once all of it is there.
    async fn take(&mut self, stage: &Stage) -> Result<Option<Haul>, BrowserError> {
        let mut there = None;
        for (session, url) in self.pages.addresses() {
            if self.site.is_waited_for(url) {
                there = Some((session.to_owned(), url.clone()));
                break;
            }
        }
        let Some((session, url)) = there else {
            self.arrived = None;
            return Ok(None);
        };
        let lacks = match look(&self.line, &self.context, &session, &url, &self.site).await? {
            Found::All(haul) => {
                stage.view.send_modify(|view| view.phase = Phase::Taking);
                return Ok(Some(haul));
            }
            Found::Lacks(what) => what,
            Found::Unusable if self.site.wait_for.url.is_some() => return Err(BrowserError::Unusable),
            Found::Unusable => return Ok(None),
        };
        // Without an address to come to, nobody knows when it should have been there.
        if self.site.wait_for.url.is_none() {
            return Ok(None);
        }
        let since = *self.arrived.get_or_insert_with(Instant::now);
        if since.elapsed() > LEFT_WITHIN.min(self.time_limit / 3) {
            return Err(BrowserError::NothingLeft(lacks));
        }
        Ok(None)
    }
}
