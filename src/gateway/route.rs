//! Which platforms answer to which model name. Why a table of its own: what a name means is the operator's decision, made
//! once when the configuration is read; a request only looks it up.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::settings::{OnBudget, Timeouts};
use crate::dialect::Unsupported;
use crate::glob;
use crate::ids::PlatformName;
use crate::platform::profile::Platform;
use crate::pool::settings::{Account, Strategy};

/// Where requests for one name (or one pattern of names) go.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name that callers send; `*` stands for anything, also for nothing.
    pub name: String,
    /// One of these comes first, by weight; the others follow. At least one.
    pub targets: Vec<Target>,
    /// Tried in this order when the targets are used up.
    pub fallback: Vec<Target>,
    /// How an account of the target is chosen.
    pub strategy: Strategy,
    /// What happens to parameters that the target lacks.
    pub unsupported: Unsupported,
    /// The configuration's timeouts, with the route's own in their place.
    pub timeouts: Timeouts,
    /// What happens to a stream that outgrows its quota.
    pub on_budget: OnBudget,
}

/// One platform that may answer, and by which name it knows the model.
#[derive(Clone, Debug)]
pub struct Target {
    pub platform: Arc<Platform>,
    /// The platform's own name of the model. `None`: see [`Target::model_for`].
    pub model: Option<String>,
    /// Share of the requests that begin here, relative to the route's other targets; at least 1.
    pub weight: u32,
    /// Bytes that [`Target::model_for`] takes off the front of the caller's name (`qwen/` in `qwen/qwen-max`).
    pub prefix_len: usize,
}

impl Target {
    /// The platform's own name for what the caller asked for: the target's model where it names one, else the caller's
    /// name, without the platform's prefix where the route is made for prefixed names.
    pub fn model_for<'a>(&'a self, asked: &'a str) -> &'a str {
        match &self.model {
            Some(model) => model,
            None => asked.get(self.prefix_len..).unwrap_or(asked),
        }
    }
}

impl Route {
    /// The targets in the order in which they are to be tried: one of `targets`, chosen by weight with `dice` (anything
    /// evenly spread over all `u64`), then the others, then `fallback`.
    pub fn in_order(&self, dice: u64) -> impl Iterator<Item = &Target> {
        let total: u64 = self.targets.iter().map(|target| u64::from(target.weight)).sum();
        let mut left = dice.checked_rem(total).unwrap_or(0);
        let first = self
            .targets
            .iter()
            .position(|target| match left.checked_sub(u64::from(target.weight)) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            })
            .unwrap_or(0);
        let (before, from) = self.targets.split_at_checked(first).unwrap_or((&[], &self.targets));
        let (chosen, after) = from.split_at_checked(1).unwrap_or((from, &[]));
        chosen.iter().chain(before).chain(after).chain(&self.fallback)
    }
}

/// What routes have in common unless they say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    pub strategy: Strategy,
    pub unsupported: Unsupported,
    pub timeouts: Timeouts,
    pub on_budget: OnBudget,
}

impl Defaults {
    fn route(self, name: String, targets: Vec<Target>) -> Route {
        let Self { strategy, unsupported, timeouts, on_budget } = self;
        Route { name, targets, fallback: Vec::new(), strategy, unsupported, timeouts, on_budget }
    }
}

/// All routes. The first that fits wins; `platform/model` works for every platform beside them.
#[derive(Clone, Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// Place of every route whose name has no `*`.
    exact: HashMap<String, usize>,
    /// The routes whose names have, with their places, in order.
    patterns: Vec<(String, usize)>,
    /// Routes for `platform/…`, by the platform's name.
    prefixed: HashMap<String, Route>,
    /// Names for `GET /v1/models`, with the place of their route.
    listed: Vec<(String, usize)>,
}

impl RouteTable {
    /// A table of `routes` in this order, and of `platform/model` for each of `platforms`.
    pub fn new(routes: Vec<Route>, platforms: &[Arc<Platform>], defaults: Defaults) -> Self {
        let mut exact = HashMap::new();
        let mut patterns = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            if route.name.contains('*') {
                patterns.push((route.name.clone(), place));
            } else {
                exact.entry(route.name.clone()).or_insert(place);
            }
        }
        let prefixed = platforms
            .iter()
            .map(|platform| {
                let name = platform.name.as_str();
                let prefix_len = name.len() + 1;
                let target = Target { platform: Arc::clone(platform), model: None, weight: 1, prefix_len };
                (name.to_owned(), defaults.route(format!("{name}/*"), vec![target]))
            })
            .collect();
        let mut table = Self { routes, exact, patterns, prefixed, listed: Vec::new() };
        table.listed = table.list();
        table
    }

    /// The table of a configuration without routes: every model in `served` (a platform and the model's name there) goes
    /// by its own name. Platforms that serve the same model share its requests evenly.
    pub fn by_name<'a>(
        served: impl IntoIterator<Item = (&'a Arc<Platform>, &'a str)>,
        platforms: &[Arc<Platform>],
        defaults: Defaults,
    ) -> Self {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut routes: Vec<Route> = Vec::new();
        for (platform, model) in served {
            let place = *places.entry(model).or_insert_with(|| {
                routes.push(defaults.route(model.to_owned(), Vec::new()));
                routes.len() - 1
            });
            let Some(route) = routes.get_mut(place) else { continue };
            if route.targets.iter().all(|target| target.platform.name != platform.name) {
                route.targets.push(Target {
                    platform: Arc::clone(platform),
                    model: Some(model.to_owned()),
                    weight: 1,
                    prefix_len: 0,
                });
            }
        }
        Self::new(routes, platforms, defaults)
    }

    /// The table of a configuration without routes: [`RouteTable::by_name`] of what `accounts` serve, in the order of
    /// `platforms`.
    pub fn by_accounts<A: Borrow<Account>>(
        accounts: &[A],
        platforms: &[Arc<Platform>],
        defaults: Defaults,
    ) -> Self {
        let mut served: Vec<(&Arc<Platform>, &str)> = Vec::new();
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        for platform in platforms {
            let accounts = accounts.iter().map(Borrow::borrow);
            for account in accounts.filter(|account: &&Account| account.platform.name == platform.name) {
                let own = account.models.iter().map(|(model, _)| model.as_str());
                let all = platform.models.iter().filter(|_| account.models.is_empty()).map(String::as_str);
                let fresh = own.chain(all).filter(|model| seen.insert((platform.name.as_str(), *model)));
                served.extend(fresh.map(|model| (platform, model)));
            }
        }
        Self::by_name(served, platforms, defaults)
    }

    /// The route of `platform/model`.
    pub fn of_platform(&self, platform: &PlatformName) -> Option<&Route> {
        self.prefixed.get(platform.as_str())
    }

    /// The route for `model`, if there is one.
    pub fn find(&self, model: &str) -> Option<&Route> {
        let exact = self.exact.get(model).copied();
        let pattern = self
            .patterns
            .iter()
            .take_while(|(_, place)| exact.is_none_or(|exact| *place < exact))
            .find(|(pattern, _)| glob::fits(pattern, model));
        match pattern.map(|(_, place)| *place).or(exact) {
            Some(place) => self.routes.get(place),
            None => {
                let (platform, rest) = model.split_once('/')?;
                self.prefixed.get(platform).filter(|_| !rest.is_empty())
            }
        }
    }

    /// All routes that were configured (or that stand in for them), in order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// What `GET /v1/models` can name: the routes' own names, and for patterns the known models of their targets that fit.
    /// Each name once, with the route that answers to it.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Route)> {
        self.listed.iter().filter_map(|(name, place)| Some((name.as_str(), self.routes.get(*place)?)))
    }

    fn list(&self) -> Vec<(String, usize)> {
        let mut seen = HashSet::new();
        let mut listed = Vec::new();
        for (place, route) in self.routes.iter().enumerate() {
            if !route.name.contains('*') {
                if seen.insert(route.name.as_str()) {
                    listed.push((route.name.clone(), place));
                }
                continue;
            }
            for target in route.targets.iter().filter(|target| target.model.is_none()) {
                for model in &target.platform.models {
                    if glob::fits(&route.name, model) && seen.insert(model) {
                        listed.push((model.clone(), place));
                    }
                }
            }
        }
        listed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    fn defaults() -> Defaults {
        let second = Duration::from_secs(1);
        Defaults {
            strategy: Strategy::default(),
            unsupported: Unsupported::default(),
            on_budget: OnBudget::default(),
            timeouts: Timeouts {
                connect: second,
                response_header: second,
                first_token: second,
                idle: second,
                total: second,
                heartbeat: second,
                request_header: second,
                client_idle: second,
            },
        }
    }

    static PLATFORMS: LazyLock<Vec<Arc<Platform>>> =
        LazyLock::new(|| Platform::built_in().unwrap().into_iter().map(Arc::new).collect());

    fn platforms() -> &'static [Arc<Platform>] {
        &PLATFORMS
    }

    fn platform(name: &str) -> Arc<Platform> {
        Arc::clone(platforms().iter().find(|platform| platform.name.as_str() == name).unwrap())
    }

    fn target(name: &str, weight: u32) -> Target {
        Target { platform: platform("openai"), model: Some(name.to_owned()), weight, prefix_len: 0 }
    }

    fn table(names: &[&str]) -> RouteTable {
        let route = |name: &&str| defaults().route((*name).to_owned(), vec![target(name, 1)]);
        RouteTable::new(names.iter().map(route).collect(), platforms(), defaults())
    }

    fn found<'a>(table: &'a RouteTable, model: &str) -> Option<&'a str> {
        table.find(model).map(|route| route.name.as_str())
    }

    #[test]
    fn the_first_route_that_fits_wins() {
        let table = table(&["smart", "gpt-*", "gpt-4o", "*-mini"]);
        assert_eq!(found(&table, "smart"), Some("smart"));
        assert_eq!(found(&table, "gpt-4o"), Some("gpt-*"));
        assert_eq!(found(&table, "gpt-4o-mini"), Some("gpt-*"));
        assert_eq!(found(&table, "o4-mini"), Some("*-mini"));
        assert_eq!(found(&table, "smarter"), None);
        let table = self::table(&["gpt-4o", "gpt-*"]);
        assert_eq!(found(&table, "gpt-4o"), Some("gpt-4o"));
    }

    #[test]
    fn a_prefixed_name_reaches_its_platform_whatever_the_routes() {
        let table = table(&["smart"]);
        let route = table.find("qwen/some/new-model").unwrap();
        assert_eq!(route.targets[0].platform.name.as_str(), "qwen");
        assert_eq!(route.targets[0].model_for("qwen/some/new-model"), "some/new-model");
        assert!(table.find("qwen/").is_none());
        assert!(table.find("nobody/x").is_none());
        assert!(table.find("qwen-max").is_none());
        // The operator's own word comes first.
        assert_eq!(found(&self::table(&["qwen/*"]), "qwen/x"), Some("qwen/*"));
        assert_eq!(self::table(&["qwen/*"]).find("qwen/x").unwrap().targets[0].prefix_len, 0);
    }

    #[test]
    fn without_routes_a_model_goes_by_its_own_name_to_all_who_serve_it() {
        let (openai, aihubmix) = (platform("openai"), platform("aihubmix"));
        let served = [(&openai, "gpt-4o"), (&openai, "o3"), (&aihubmix, "gpt-4o"), (&openai, "gpt-4o")];
        let table = RouteTable::by_name(served, platforms(), defaults());
        let names = |model: &str| -> Vec<String> {
            let route = table.find(model).unwrap();
            route.targets.iter().map(|target| target.platform.name.to_string()).collect()
        };
        assert_eq!(names("gpt-4o"), ["openai", "aihubmix"]);
        assert_eq!(names("o3"), ["openai"]);
        assert!(table.find("claude-sonnet-4-5").is_none());
        assert_eq!(table.models().map(|(name, _)| name).collect::<Vec<_>>(), ["gpt-4o", "o3"]);
    }

    #[test]
    fn weights_choose_who_comes_first_and_the_rest_follow() {
        let mut route = table(&["x"]).routes()[0].clone();
        route.targets = vec![target("a", 3), target("b", 1), target("c", 2)];
        route.fallback = vec![target("f", 1), target("g", 1)];
        let order = |dice| -> String { route.in_order(dice).map(|target| target.model_for("")).collect() };
        let all: Vec<String> = (0..6).map(order).collect();
        assert_eq!(all, ["abcfg", "abcfg", "abcfg", "bacfg", "cabfg", "cabfg"]);
        assert_eq!(order(u64::MAX), order(u64::MAX % 6));
    }

    /// What a pattern means, said once more and simply: drop a star, or let it eat one character.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => model(rest, text),
            (Some(('*', rest)), Some((_, after))) => model(rest, text) || model(pattern, after),
            (Some((a, rest)), Some((b, after))) => a == b && model(rest, after),
            _ => false,
        }
    }

    fn chars(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    proptest! {
        #[test]
        fn a_pattern_fits_what_its_meaning_says(pattern in "[ab/ä*]{0,8}", text in "[ab/ä]{0,10}") {
            prop_assert_eq!(glob::fits(&pattern, &text), model(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn find_is_the_first_that_fits(
            names in proptest::collection::vec("[ab*]{1,3}", 0..6),
            asked in "[ab]{1,3}",
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let expected = names.iter().find(|name| model(&chars(name), &chars(&asked))).copied();
            let table = table(&names);
            prop_assert_eq!(found(&table, &asked), expected);
        }
    }
}
