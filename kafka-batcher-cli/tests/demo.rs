//! `kafka-batcher demo`, as the README says to run it, only shorter.

mod common;

use common::run;

#[test]
fn an_outage_loses_nothing() {
    let ended = run(&["demo", "--events", "12000", "--outage", "2"], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        (ended.reported("accepted"), ended.reported("delivered"), ended.reported("lost")),
        (12_000, 12_000, 0)
    );
    assert!(ended.reported("stored in between") > 0, "the outage was one: {ended:?}");
    for text in
        ["the broker goes away", "the broker is back", "replaying", "order per key kept", "Nothing was lost."]
    {
        assert!(ended.stdout.contains(text), "{text}: {ended:?}");
    }
}

#[test]
fn without_an_outage_nothing_is_there_twice() {
    let ended = run(&["demo", "--events", "2000", "--outage", "0"], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((ended.reported("duplicates"), ended.reported("delivered")), (0, 2_000));
}
