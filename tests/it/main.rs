//! The integration tests: the real binary as a child process, against simulated and scripted platforms. One binary, so
//! that everything is linked once.

#![cfg(test)]

mod browser;
mod canary;
mod frames;
mod hostile;
mod house;
mod idp;
#[cfg(feature = "browser")]
mod person;
mod proxy;
mod puppet;
mod replicas;

mod arrivals;
mod asks;
mod bad_input;
mod broken;
mod budget;
mod callbacks;
mod callers;
mod chaos;
mod consent;
mod consent_leaks;
#[cfg(feature = "browser")]
mod desktop;
mod device;
mod endpoints;
mod failover;
mod leaving;
mod lifecycle;
mod login;
mod misfortune;
mod onboard;
mod overload;
mod people;
mod people_gone;
mod people_owners;
mod provider;
mod quota;
mod redis_acl;
mod redis_failover;
mod redis_quota;
mod redis_recovery;
mod redis_tls;
mod redis_trouble;
mod refusals;
#[cfg(feature = "browser")]
mod relay;
#[cfg(feature = "browser")]
mod relay_page;
#[cfg(feature = "browser")]
mod relay_strange;
mod resting;
mod revocation;
mod secure_gate;
mod secure_h2;
mod secure_json;
mod secure_leaks;
mod secure_limits;
mod secure_smuggling;
mod shapes;
mod sign_in_trouble;
mod silence;
mod skew;
mod smoke;
mod tokens;
mod usage;
mod wires;
