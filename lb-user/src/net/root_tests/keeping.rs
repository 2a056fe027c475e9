//! Neighbours that the kernel keeps resolved for us.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::super::*;
use super::{PATIENCE, TestNamespace, address, is_root, pair};

#[tokio::test]
async fn root_neighbours_are_kept_and_given_up() {
    if !is_root("root_neighbours_are_kept_and_given_up") {
        return;
    }
    let (one, _two) = pair();
    let fix = || {
        one.ip("neigh replace 10.0.0.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent");
        one.ip("neigh replace 10.0.0.78 lladdr 02:00:00:00:00:78 dev eth0 extern_learn");
    };
    fix();
    let eth0 = snapshot(&one.netns)
        .await
        .unwrap()
        .link_named("eth0")
        .unwrap()
        .ifindex;
    let key = |text| (eth0, address(text));
    let wanted = BTreeSet::from([
        key("10.0.0.2"),
        key("10.0.0.99"),
        key("10.0.0.77"),
        key("10.0.0.78"),
        (9999, address("10.0.0.2")),
    ]);
    let fixed_before = fixed(&one).await;

    let mut keeper = NeighbourKeeper::open(&one.netns).await.unwrap();
    assert_eq!(keeper.mode(), KeepingMode::Unknown);
    let report = keeper.keep(&wanted).await.unwrap();
    assert_eq!((report.added, report.left_alone), (2, 2), "{report:?}");
    assert_eq!(report.failed.len(), 1, "there is no interface 9999");
    assert_eq!(keeper.mode(), KeepingMode::Managed);
    assert_eq!(
        keeper.made().collect::<BTreeSet<_>>(),
        BTreeSet::from([key("10.0.0.2"), key("10.0.0.99")])
    );

    // Nobody sends to it, and still it becomes resolved.
    let start = Instant::now();
    let resolved = loop {
        let neighbour = snapshot(&one.netns).await.unwrap().neighbours[&key("10.0.0.2")];
        if neighbour.usable_mac().is_some() {
            break neighbour;
        }
        assert!(start.elapsed() < PATIENCE, "{neighbour:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(resolved.managed);

    // A second call finds nothing to do; after the interface went down and up, it makes them anew.
    let report = keeper.keep(&wanted).await.unwrap();
    assert_eq!((report.added, report.removed), (0, 0), "{report:?}");
    one.ip("link set eth0 down");
    one.ip("link set eth0 up");
    fix();
    let swept = snapshot(&one.netns).await.unwrap();
    assert!(!swept.neighbours.contains_key(&key("10.0.0.2")));
    keeper.keep(&wanted).await.unwrap();
    let again = snapshot(&one.netns).await.unwrap();
    assert!(again.neighbours[&key("10.0.0.2")].managed);

    // A keeper of a later process knows them, and takes away what nobody wants any more.
    drop(keeper);
    let mut later = NeighbourKeeper::open(&one.netns).await.unwrap();
    assert_eq!(later.made().count(), 2);
    let fewer = BTreeSet::from([key("10.0.0.2")]);
    let report = later.keep(&fewer).await.unwrap();
    assert_eq!((report.added, report.removed), (0, 1), "{report:?}");
    let left = snapshot(&one.netns).await.unwrap();
    assert!(!left.neighbours.contains_key(&key("10.0.0.99")));

    let report = later.release().await.unwrap();
    assert_eq!(report.removed, 1, "{report:?}");
    assert_eq!(later.made().count(), 0);
    let left = snapshot(&one.netns).await.unwrap();
    assert!(!left.neighbours.contains_key(&key("10.0.0.2")));
    assert_eq!(fixed(&one).await, fixed_before, "not ours to touch");
}

/// The two entries that the test set on purpose.
async fn fixed(test: &TestNamespace) -> Vec<Neighbour> {
    snapshot(&test.netns)
        .await
        .unwrap()
        .neighbours
        .into_iter()
        .filter(|((_, known), _)| [address("10.0.0.77"), address("10.0.0.78")].contains(known))
        .map(|(_, neighbour)| neighbour)
        .collect()
}
