//! The integration tests: the real binary as a child process, against simulated and scripted platforms. One binary, so
//! that everything is linked once.

#![cfg(test)]

mod house;
mod puppet;

mod broken;
mod callers;
mod failover;
mod leaving;
mod lifecycle;
mod refusals;
mod silence;
mod smoke;
mod wires;
