//! Third-party apps, and the name under which Weir makes tokens itself: where the world reaches it.

use std::time::Duration;

use url::Url;

use super::super::field::Field;
use super::super::raw::{self, Raw};
use super::super::report::{Position, Problems};
use super::super::{Listen, provider::Settings};
use super::time;
use crate::identity::MAX_LIFETIME;
use crate::oauth;

pub(super) fn settings(raw: &Raw, oauth: &oauth::Settings, listen: &Listen, problems: &Problems) -> Settings {
    let default = (raw::Provider::default(), Settings::default());
    let (raw_default, default) = (&default.0, default.1);
    let section = raw.provider.get().unwrap_or(raw_default);
    let at = raw.provider.at(Position::default());
    let public_url = name(oauth.public_url.as_ref(), listen);
    let enabled = section.enabled.or(default.enabled);
    if enabled {
        match &public_url {
            None => problems.add_with(
                section.enabled.at(at),
                "apps would not know where this gateway is",
                "write `oauth: {public_url: \"https://weir.example.com\"}`",
            ),
            Some(name) if name.matches('/').count() > 2 => problems.add_with(
                section.enabled.at(at),
                "an issuer of tokens needs a host of its own",
                "`oauth.public_url` without a path",
            ),
            Some(_) => {}
        }
    }
    same_name(raw, public_url.as_deref(), problems);
    Settings {
        enabled,
        public_url,
        topup_url: section.topup_url.placed().and_then(|(url, at)| topup_url(url, at, problems)),
        access_ttl: ttl(&section.access_ttl, default.access_ttl, problems),
        refresh_ttl: time(&section.refresh_ttl, default.refresh_ttl, problems),
    }
}

/// The public URL, or the listener's own address where only this machine reaches it.
fn name(public_url: Option<&Url>, listen: &Listen) -> Option<String> {
    match public_url {
        Some(url) => Some(url.as_str().trim_end_matches('/').to_owned()),
        None if listen.address.ip().is_loopback() => {
            let scheme = if listen.tls.is_some() { "https" } else { "http" };
            Some(format!("{scheme}://{}", listen.address))
        }
        None => None,
    }
}

/// An issuer of the configuration with our own name would never be asked.
fn same_name(raw: &Raw, name: Option<&str>, problems: &Problems) {
    let auth_default = raw::Auth::default();
    let listed = raw.auth.get().unwrap_or(&auth_default).jwt.get();
    let issuers = listed.into_iter().flatten().filter_map(Field::get).filter_map(|jwt| jwt.issuer.placed());
    for (_, at) in issuers.filter(|(issuer, _)| Some(issuer.as_str()) == name) {
        problems.add(at, "this is the gateway's own name, under which it makes tokens itself");
    }
}

fn topup_url(given: &str, at: Position, problems: &Problems) -> Option<String> {
    let url = Url::parse(given).ok().filter(|url| url.scheme() == "https" && url.username().is_empty());
    if url.is_none() {
        problems.add_with(at, "not a page to send people to", "write it like `https://pay.example.com/weir`");
    }
    url.map(|url| url.to_string())
}

fn ttl(field: &Field<super::super::quantity::Length>, default: Duration, problems: &Problems) -> Duration {
    let ttl = time(field, default, problems);
    if ttl > MAX_LIFETIME {
        problems.add(
            field.at(Position::default()),
            "an access token lives for a day at most: refresh tokens are for longer",
        );
        return default;
    }
    ttl
}
