//! Reload, switches, isolation: who may use what, and what is remembered when the configuration changes.

use super::*;

fn daily(tokens: u64) -> Limits {
    Limits { daily_tokens: Some(tokens), ..Limits::default() }
}

#[test]
fn an_account_keeps_what_it_spent_and_its_cooldown_over_a_reload() {
    let world = World::new(vec![limited("a", daily(1000))]);
    world.take().unwrap().settle(used(400));
    world.pool.replace(vec![limited("a", daily(800))]);
    assert_eq!(world.left("a", Dimension::DailyTokens), 400);
    let rate_limited = judged(Verdict::RateLimited, Scope::Account, Some(30));
    world.take().unwrap().settle_error(&rate_limited);
    world.pool.replace(vec![limited("a", daily(1000))]);
    assert_eq!(world.refusal(), (Why::Cooling, Some(seconds(30))));
}

#[test]
fn a_reservation_outlives_its_account_and_the_account_vanishes_with_it() {
    let world = World::new(vec![limited("a", daily(1000)), limited("b", daily(1000))]);
    let held: Vec<_> = (0..2).map(|_| world.take().unwrap()).collect();
    world.pool.replace(vec![limited("b", daily(1000))]);
    assert_eq!(world.take().unwrap().account().id.as_str(), "b");
    let leaving = world.state("a");
    assert_eq!((leaving.is_leaving, leaving.in_flight), (true, 1));
    held.into_iter().for_each(|taken| taken.settle(used(100)));
    assert_eq!(world.pool.states().len(), 1);
}

#[test]
fn an_account_that_comes_back_while_it_is_leaving_has_forgotten_nothing() {
    let world = World::new(vec![limited("a", Limits { concurrency: Some(2), ..daily(1000) })]);
    let held = world.take().unwrap();
    world.pool.replace(Vec::<Account>::new());
    assert_eq!(world.refusal().0, Why::NoneConfigured);
    world.pool.replace(vec![limited("a", Limits { concurrency: Some(1), ..daily(1000) })]);
    assert_eq!(world.refusal().0, Why::LimitReached, "its slot is still taken");
    held.settle(used(70));
    assert_eq!(world.left("a", Dimension::DailyTokens), 930);
}

#[test]
fn a_limit_that_comes_with_a_reload_counts_requests_that_began_before_it() {
    let world = World::new(accounts(1));
    let held = world.take().unwrap();
    world.pool.replace(vec![limited("a0", daily(1000))]);
    held.settle(used(70));
    assert_eq!(world.left("a0", Dimension::DailyTokens), 930);
}

#[test]
fn a_switch_thrown_by_hand_survives_a_reload_unless_the_file_changed_it_too() {
    let world = World::new(accounts(1));
    let id = AccountId::from("a0");
    assert!(world.pool.set_enabled(&id, false));
    assert!(!world.pool.set_enabled(&AccountId::from("nobody"), false));
    assert_eq!(world.refusal(), (Why::Disabled, None));
    assert!(!world.pool.has_any(&world.platform, &world.tenant));
    world.pool.replace(accounts(1));
    assert_eq!(world.refusal().0, Why::Disabled);
    world.pool.replace(vec![Account { is_enabled: false, ..account("a0") }]);
    world.pool.replace(accounts(1));
    assert!(world.take().is_ok());
}

#[test]
fn an_expired_account_comes_back_with_a_new_credential_and_not_with_the_old_one() {
    let world = World::new(accounts(1));
    world.take().unwrap().settle_error(&judged(Verdict::AuthInvalid, Scope::Account, None));
    world.pool.replace(accounts(1));
    assert_eq!(world.refusal().0, Why::Disabled);
    let credential = Credential::ApiKey(Secret::new("sk-new"));
    world.pool.replace(vec![Account { credential, ..account("a0") }]);
    assert!(world.take().is_ok());
}

#[test]
fn a_tenants_request_is_carried_by_its_own_or_by_shared_accounts_only() {
    let own = |id: &str, tenants: &[&str], models: &[&str]| Account {
        tenants: tenants.iter().map(|name| TenantId::from(*name)).collect(),
        models: models.iter().map(|name| ((*name).to_owned(), format!("{id}:{name}"))).collect(),
        ..account(id)
    };
    let world = World::new(vec![
        own("t-any", &["t"], &[]),
        own("t-m", &["t", "u", "t"], &["m", "m"]),
        own("u-any", &["u"], &[]),
        own("all-m", &[], &["m"]),
        own("all-n", &[], &["n"]),
    ]);
    let carriers = |tenant: &str, model: &str| {
        let tenant = TenantId::from(tenant);
        let mut held = Vec::new();
        let mut tried: Vec<AccountId> = Vec::new();
        let end = loop {
            match world.pool.take(&Want { tenant: &tenant, model, tried: &tried, ..world.want() }) {
                Ok(taken) => {
                    tried.push(taken.account().id.clone());
                    held.push(format!("{}={}", taken.account().id, taken.upstream_model()));
                    taken.settle(used(1));
                }
                Err(refusal) => break refusal.why,
            }
        };
        held.sort();
        (held.join(" "), end)
    };
    assert_eq!(carriers("t", "m"), ("all-m=all-m:m t-any=m t-m=t-m:m".to_owned(), Why::AllTried));
    assert_eq!(carriers("u", "n"), ("all-n=all-n:n u-any=n".to_owned(), Why::AllTried));
    assert_eq!(carriers("x", "m"), ("all-m=all-m:m".to_owned(), Why::AllTried));
    assert_eq!(carriers("x", "other"), (String::new(), Why::NotThisModel));
    world.pool.replace(vec![own("u-any", &["u"], &[])]);
    assert_eq!(carriers("x", "m"), (String::new(), Why::NotThisTenant));
    let other = PlatformName::from("openai");
    assert!(
        !world.pool.has_any(&other, &world.tenant) && !world.pool.has_any(&world.platform, &world.tenant)
    );
    assert!(world.pool.serves(&world.platform, &TenantId::from("u"), "m"));
}

#[test]
fn the_debug_form_of_the_pool_shows_no_credential() {
    let world = World::new(vec![account("canary")]);
    let held = world.take().unwrap();
    let text = format!("{:?} {held:?} {:?}", world.pool, world.pool.states());
    assert!(!text.contains("sk-canary"));
    held.settle(used(1));
}

#[test]
fn a_new_token_of_the_same_consent_is_taken_and_ends_no_rest() {
    let of = |token: &str, consent: &str| Account {
        credential: Credential::ApiKey(Secret::new(token)),
        consent: Some(Arc::from(consent)),
        ..account("a")
    };
    let world = World::new(vec![of("t1", "ann")]);
    world.take().unwrap().settle_error(&judged(Verdict::AuthInvalid, Scope::Account, None));
    assert_eq!(world.refusal().0, Why::Disabled);
    world.pool.replace(vec![of("t2", "ann")]);
    let rate_limited = judged(Verdict::RateLimited, Scope::Account, Some(3600));
    world.take().expect("it has a new token").settle_error(&rate_limited);
    world.pool.replace(vec![of("t3", "ann")]);
    assert_eq!(
        world.refusal(),
        (Why::Cooling, Some(seconds(3600))),
        "the platform said so to this very account"
    );
    world.pool.replace(vec![of("t4", "ann, a day later")]);
    assert!(world.take().is_ok(), "somebody agreed again");
}

#[test]
fn one_account_is_replaced_where_it_lies_or_not_at_all() {
    let of = |token: &str| Account {
        credential: Credential::ApiKey(Secret::new(token)),
        consent: Some(Arc::from("ann")),
        ..limited("a", daily(1000))
    };
    let world = World::new(vec![of("t1"), account("b")]);
    assert!(world.pool.set_enabled(&AccountId::from("b"), false));
    let held = world.take().unwrap();
    assert!(world.pool.put(&Arc::new(Account { limits: daily(800), owner: Some("ann".into()), ..of("t2") })));
    let next = world.take().unwrap();
    // Whoever has it goes on with what it was.
    assert_eq!(held.account().credential, Credential::ApiKey(Secret::new("t1")));
    assert_eq!(next.account().credential, Credential::ApiKey(Secret::new("t2")));
    held.settle(used(100));
    next.settle(used(100));
    assert_eq!(world.left("a", Dimension::DailyTokens), 600);
    assert_eq!(world.state("a").owner, Some("ann".into()));
    assert!(world.pool.put(&Arc::new(Account { is_enabled: false, ..of("t2") })));
    assert_eq!(world.refusal().0, Why::Disabled, "and of the other nothing is forgotten");
    // Whom it carries, and before whom, is laid out with all the others.
    let models = vec![("m".to_owned(), "own".to_owned())];
    for moved in [
        account("c"),
        Account { tenants: vec!["t".into()], ..of("t3") },
        Account { models, ..of("t3") },
        Account { weight: 7, ..of("t3") },
        Account { priority: 7, ..of("t3") },
        Account { platform: platform("glm"), ..of("t3") },
    ] {
        assert!(!world.pool.put(&Arc::new(moved)));
    }
    assert_eq!(world.pool.states().len(), 2);
    // Laid out anew it is the same one.
    let again = Arc::new(of("t4"));
    world.pool.replace([Arc::clone(&again), Arc::new(account("b"))]);
    assert_eq!(world.left("a", Dimension::DailyTokens), 800);
    let taken = world.take().unwrap();
    assert!(Arc::ptr_eq(taken.account(), &again));
    taken.settle(used(1));
    // The very same again costs nothing, and is as it was.
    world.pool.replace([again]);
    assert_eq!(world.left("a", Dimension::DailyTokens), 799);
}
