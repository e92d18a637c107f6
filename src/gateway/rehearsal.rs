//! Failures on purpose: a panic in the middle of a request, so that a test can show that only that request feels it; a pause between
//! an answer and its being kept, so that a test can kill the process right there. In a
//! released binary there is nothing here: all of it is compiled only where debug assertions are, and even there it does
//! nothing unless `weir` was started with a variable that says what is to fail.

/// Where to panic, and for which model: `PLACE=MODEL`, more of them after commas. The places are `request` and `stream`.
#[cfg(debug_assertions)]
const VARIABLE: &str = "WEIR_REHEARSE_PANIC";

/// Where to stand still, and for how many milliseconds: `PLACE=MILLISECONDS`. The place is `renewal`: a provider has answered, and
/// nothing is kept yet.
#[cfg(debug_assertions)]
const PAUSES: &str = "WEIR_REHEARSE_PAUSE";

/// What is to fail.
#[derive(Debug, Default)]
pub struct Rehearsal {
    #[cfg(debug_assertions)]
    panics: Vec<(String, String)>,
    #[cfg(debug_assertions)]
    pauses: Vec<(String, u64)>,
}

#[cfg(debug_assertions)]
impl Rehearsal {
    /// What the environment wants.
    pub fn of(environment: impl Fn(&str) -> Option<String>) -> Self {
        let wanted = environment(VARIABLE).unwrap_or_default();
        let pairs = wanted.split(',').filter_map(|one| one.split_once('='));
        let pauses = environment(PAUSES).unwrap_or_default();
        let each = pauses.split(',').filter_map(|one| one.split_once('='));
        let each = each.filter_map(|(place, millis)| Some((place.to_owned(), millis.parse().ok()?)));
        Self {
            panics: pairs.map(|(place, model)| (place.to_owned(), model.to_owned())).collect(),
            pauses: each.collect(),
        }
    }

    /// Stands still where that is wanted.
    pub(super) async fn pause_in(&self, place: &str) {
        if let Some((_, millis)) = self.pauses.iter().find(|(known, _)| known == place) {
            tokio::time::sleep(std::time::Duration::from_millis(*millis)).await;
        }
    }

    /// Panics where that is wanted.
    #[expect(clippy::panic, reason = "that is what it is for")]
    pub(super) fn panic_in(&self, place: &str, model: &str) {
        if self.panics.iter().any(|(where_to, whose)| (where_to.as_str(), whose.as_str()) == (place, model)) {
            panic!("a rehearsed panic in the {place} of a request for {model}");
        }
    }
}

#[cfg(not(debug_assertions))]
impl Rehearsal {
    /// Nothing, whatever the environment wants.
    pub fn of(_environment: impl Fn(&str) -> Option<String>) -> Self {
        Self::default()
    }

    /// Nothing.
    #[inline]
    pub(super) const fn panic_in(&self, _place: &str, _model: &str) {}

    /// Nothing.
    #[inline]
    pub(super) async fn pause_in(&self, _place: &str) {}
}
