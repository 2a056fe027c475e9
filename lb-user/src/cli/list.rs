//! `bpvs list`.

use super::output::Output;
use super::table::{flags, method_name, service_name, trimmed};
use super::{CliError, Context};
use crate::api::wire;

pub(super) async fn list(
    context: &Context,
    json: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let listing: wire::Listing = context.client().await?.get("/v1/table").await?;
    if json {
        return output.json(&listing);
    }
    output.text(&rendered(&listing))
}

/// The columns of `ipvsadm -Ln`; servers are in list order, newest first.
pub(super) fn rendered(listing: &wire::Listing) -> String {
    let mut text = String::from(
        "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
    );
    for service in &listing.services {
        let flags = flags(service);
        text.push_str(&format!(
            "{} {}{flags}\n",
            service_name(&service.address),
            service.scheduler
        ));
        for server in &service.servers {
            text.push_str(&format!(
                "  -> {:<28} {:<7} {:<6} {:<10} {:<10}\n",
                server.address,
                method_name(&server.method),
                server.weight,
                server.active,
                server.inactive
            ));
        }
    }
    trimmed(&text)
}
