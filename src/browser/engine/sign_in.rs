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
    let context = prepare(line, is_relayed).await?;
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
        has_gone_on: false,
        is_looking: false,
        arrived: None,
        lonely_since: Instant::now(),
        turned_away: None,
        noticed: None,
    };
    watch.run(events.rest, news, stage).await
}

/// A context of its own, which is kept in memory only; nothing to be downloaded; the gate before every request; word of every page.
async fn prepare(line: &Line, is_relayed: bool) -> Result<String, BrowserError> {
    let pages = json!([{"type": "page"}, {"exclude": true}]);
    line.ask(None, "Target.setDiscoverTargets", json!({"discover": true, "filter": pages})).await?;
    let made = line.ask(None, "Target.createBrowserContext", json!({"disposeOnDetach": true})).await?;
    let context = made.get("browserContextId").and_then(Value::as_str).ok_or(BrowserError::Died)?.to_owned();
    let no_downloads = json!({"behavior": "deny", "browserContextId": context});
    line.ask(None, "Browser.setDownloadBehavior", no_downloads).await?;
    let everything = json!({"patterns": [{"urlPattern": "*"}], "handleAuthRequests": is_relayed});
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
    /// Whether the person has been anywhere else.
    has_gone_on: bool,
    /// Whether somebody looks at the pages just now.
    is_looking: bool,
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
        let (sight, mut sights) = mpsc::channel(1);
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
                Some(sight) = sights.recv() => {
                    if let Some(haul) = self.learn(sight?, stage)? {
                        return Ok(haul);
                    }
                }
                _ = ticks.tick() => self.look(&sight, stage)?,
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
    fn look(
        &mut self,
        sight: &mpsc::Sender<Result<Sight, BrowserError>>,
        stage: &Stage,
    ) -> Result<(), BrowserError> {
        if self.pages.is_watched(stage) {
            self.lonely_since = Instant::now();
        } else if self.lonely_since.elapsed() > UNATTENDED.min(self.time_limit / 2) {
            return Err(BrowserError::Unattended);
        }
        if self.noticed.is_some_and(|since| since.elapsed() > NOTICED) {
            self.note(None, stage);
        }
        let Some(opened) = self.opened else { return Ok(()) };
        if self.pages.is_asking() {
            // It stands still until its person has answered: its time begins anew.
            self.opened = Some(Instant::now());
            self.arrived = self.arrived.map(|_| Instant::now());
            return Ok(());
        }
        self.expect(opened, stage)?;
        if !self.is_looking {
            self.is_looking = true;
            let (look, sight) = (self.gaze(), sight.clone());
            self.tasks.spawn(async move { drop(sight.send(look.run().await).await) });
        }
        Ok(())
    }

    /// Waits for what the row expects of the login page, until it has been seen once, or the person has gone on from there.
    fn expect(&mut self, opened: Instant, stage: &Stage) -> Result<(), BrowserError> {
        let bare = |url: &Url| format!("{}{}", url.origin().ascii_serialization(), url.path());
        let here = self.pages.addresses().map(|(_, url)| url).find(|url| url.has_host()).map(bare);
        if let Some(here) = here {
            self.has_gone_on |= *self.landed.get_or_insert_with(|| here.clone()) != here;
        }
        let Some(selector) = self.expected() else { return Ok(()) };
        let limit = EXPECTED_WITHIN.min(self.time_limit / 3);
        if opened.elapsed() > limit {
            return Err(BrowserError::Unexpected(selector));
        }
        if opened.elapsed() > limit / 3 && self.noticed.is_none() {
            self.note(Some(Notice::LooksOdd), stage);
        }
        Ok(())
    }

    /// What the row expects of the login page, where that is still to be seen.
    fn expected(&self) -> Option<String> {
        self.site.expect.clone().filter(|_| !self.is_expected && !self.has_gone_on)
    }

    fn gaze(&self) -> Gaze {
        let there = self.pages.addresses().find(|(_, url)| self.site.is_waited_for(url));
        Gaze {
            line: self.line.clone(),
            context: self.context.clone(),
            site: Arc::clone(&self.site),
            expected: self.expected(),
            sessions: self.pages.sessions(),
            there: there.map(|(session, url)| (session.to_owned(), url.clone())),
        }
    }

    /// Takes what was seen; what the site left, once all of it is there.
    fn learn(&mut self, sight: Sight, stage: &Stage) -> Result<Option<Haul>, BrowserError> {
        self.is_looking = false;
        if sight.is_expected {
            self.is_expected = true;
            stage
                .view
                .send_if_modified(|view| view.notice.take_if(|notice| *notice == Notice::LooksOdd).is_some());
        }
        let lacks = match sight.found {
            Some(Found::All(haul)) => {
                stage.view.send_modify(|view| view.phase = Phase::Taking);
                return Ok(Some(haul));
            }
            Some(Found::Lacks(what)) => what,
            Some(Found::Unusable) if self.site.wait_for.url.is_some() => return Err(BrowserError::Unusable),
            Some(Found::Unusable) => return Ok(None),
            None => {
                self.arrived = None;
                return Ok(None);
            }
        };
        // Without an address to come to, nobody knows when it should have been there; nor where the login page is at such a one itself.
        if self.site.wait_for.url.is_none() || !self.has_gone_on {
            return Ok(None);
        }
        let since = *self.arrived.get_or_insert_with(Instant::now);
        if since.elapsed() > LEFT_WITHIN.min(self.time_limit / 3) {
            return Err(BrowserError::NothingLeft(lacks));
        }
        Ok(None)
    }
}

/// One look at the pages. Apart from the watch: a page that asks its person something answers nobody else until it has been answered, and
/// that must be seen meanwhile.
struct Gaze {
    line: Line,
    context: String,
    site: Arc<Site>,
    expected: Option<String>,
    sessions: Vec<String>,
    /// A page where somebody may be signed in.
    there: Option<(String, Url)>,
}

/// What it shows.
struct Sight {
    is_expected: bool,
    /// What the site has left, where somebody may be signed in.
    found: Option<Found>,
}

impl Gaze {
    async fn run(self) -> Result<Sight, BrowserError> {
        let is_expected = match &self.expected {
            Some(selector) => self.has(selector).await?,
            None => false,
        };
        let found = match &self.there {
            Some((session, url)) => Some(look(&self.line, &self.context, session, url, &self.site).await?),
            None => None,
        };
        Ok(Sight { is_expected, found })
    }

    async fn has(&self, selector: &str) -> Result<bool, BrowserError> {
        let quoted = Value::from(selector).to_string();
        let question = json!({"expression": format!("!!document.querySelector({quoted})"), "returnByValue": true, "timeout": 2000});
        for session in &self.sessions {
            let asked = self.line.ask(Some(session), "Runtime.evaluate", question.clone()).await;
            let Ok(answer) = asked else { continue };
            if answer.pointer("/result/value") == Some(&true.into()) {
                return Ok(true);
            }
            let wrong = answer.pointer("/exceptionDetails/exception/description").and_then(Value::as_str);
            if wrong.is_some_and(|words| words.contains("is not a valid selector")) {
                return Err(BrowserError::NoSelector(selector.to_owned()));
            }
        }
        Ok(false)
    }
}
