//! The whole path works at all: before any test of how it breaks.

use crate::house::House;
use crate::puppet::{Puppet, answer, good_json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_and_a_whole_answer_come_through_and_nothing_is_held_afterwards() {
    let house = House::start("accounts: [{id: a, platform: openai, api_key: sk-a}]").await;
    let answer = house.chat("gpt-4o", "Hello there").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.content().is_empty());
    let stream = house.stream("gpt-4o", "Hello there").await;
    assert_eq!(stream.header("content-type"), "text/event-stream; charset=utf-8");
    let events = stream.events();
    assert!(events.is_whole(), "{}", stream.text());
    assert_eq!(events.text(), answer.content());
    assert_eq!(house.counted("openai", "requests").await, 2);
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scripted_platform_is_one_row() {
    let puppet = Puppet::saying(answer("200 OK", "content-type: application/json\r\n", &good_json())).await;
    let house = House::start(&puppet.house("")).await;
    let answer = house.chat("m", "Hello").await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "Hello world"), "{}", answer.text());
    assert_eq!(puppet.requests(), 1);
    house.settled().await;
}
