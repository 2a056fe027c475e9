//! Against a real kernel, in namespaces of the tests' own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::test_namespace::{TestNamespace, is_root};
use super::{Network, Watch};

mod agreement;
mod keeping;
mod reading;
mod watching;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(5);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pair of namespaces joined by a veth: "eth0" 10.0.0.1/24 in the first, "eth0" 10.0.0.2/24 in the second.
fn pair() -> (TestNamespace, TestNamespace) {
    let (one, two) = (TestNamespace::new(), TestNamespace::new());
    one.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        two.name
    ));
    for (netns, last) in [(&one, 1), (&two, 2)] {
        netns.ip("link set lo up");
        netns.ip(&format!("addr add 10.0.0.{last}/24 dev eth0"));
        netns.ip("link set eth0 up");
    }
    (one, two)
}

async fn wait_for(
    watch: &mut Watch,
    what: &str,
    wanted: impl Fn(&Network) -> bool,
) -> Arc<Network> {
    let wait = async {
        loop {
            let network = watch.changed().await.unwrap();
            if wanted(&network) {
                return network;
            }
        }
    };
    match timeout(PATIENCE, wait).await {
        Ok(network) => network,
        Err(_) => panic!("{what} did not come; there is {:#?}", watch.current()),
    }
}
