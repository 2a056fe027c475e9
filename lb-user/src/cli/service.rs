//! `bpvs service`.

use hyper::Method;

use super::args::{ServiceCommand, TimeoutEdit};
use super::context::segment;
use super::{CliError, Context};
use crate::api::wire;
use crate::model::{Netmask, Persistence, Service, ServiceKey, ServiceTimeouts, format_duration};

pub(super) async fn service(context: &Context, command: ServiceCommand) -> Result<(), CliError> {
    match command {
        ServiceCommand::Add {
            key,
            scheduler,
            scheduler_flags,
            persistent,
            netmask,
            one_packet,
            reset,
            source_nat,
            answer,
            socket,
            loopback,
            relay,
            clamp_mss,
            tcp_timeout,
            udp_timeout,
        } => {
            let mut persistence = persistent.map(|timeout| Persistence::new(timeout, key.family()));
            if let (Some(persistence), Some(netmask)) = (&mut persistence, netmask) {
                persistence.netmask = mask(&netmask, &key)?;
            }
            let timeouts = ServiceTimeouts {
                tcp: tcp_timeout,
                udp: udp_timeout,
            };
            let service = Service {
                scheduler_flags,
                persistence,
                one_packet,
                reset,
                source_nat,
                answer,
                socket,
                loopback,
                relay,
                clamp_mss,
                timeouts,
                ..Service::new(key, scheduler)
            };
            let service = service.checked().map_err(|error| CliError::usage(&error))?;
            let body = wire::Service::from(&service);
            context
                .client()
                .await?
                .change(Method::POST, "/v1/services", &body)
                .await?;
        }
        ServiceCommand::Edit {
            key,
            scheduler,
            scheduler_flags,
            persistent,
            netmask,
            one_packet,
            reset,
            source_nat,
            answer,
            socket,
            loopback,
            clamp_mss,
            tcp_timeout,
            udp_timeout,
        } => {
            let timeout = |edit: Option<TimeoutEdit>, off: &str| {
                edit.map(|TimeoutEdit(timeout)| timeout.map_or_else(|| off.into(), format_duration))
            };
            let netmask = netmask.map(|netmask| mask(&netmask, &key)).transpose()?;
            let body = wire::ServiceEdit {
                scheduler: scheduler.map(|scheduler| scheduler.to_string()),
                scheduler_flags: scheduler_flags.map(|flags| flags.to_string()),
                persistent: timeout(persistent, "off"),
                netmask: netmask.map(|netmask| netmask.to_string()),
                one_packet,
                reset,
                source_nat: source_nat.map(Into::into),
                answer,
                socket,
                loopback,
                clamp_mss,
                tcp_timeout: timeout(tcp_timeout, "default"),
                udp_timeout: timeout(udp_timeout, "default"),
            };
            let path = format!("/v1/services/{}", segment(&key.to_string()));
            context
                .client()
                .await?
                .change(Method::PATCH, &path, &body)
                .await?;
        }
        ServiceCommand::Remove { key } => {
            let path = format!("/v1/services/{}", segment(&key.to_string()));
            context
                .client()
                .await?
                .command(Method::DELETE, &path)
                .await?;
        }
        ServiceCommand::Clear => {
            context
                .client()
                .await?
                .command(Method::DELETE, "/v1/services")
                .await?;
        }
    }
    Ok(())
}

/// `bpvs zero`.
pub(super) async fn zero(context: &Context, key: Option<ServiceKey>) -> Result<(), CliError> {
    let path = match key {
        Some(key) => format!("/v1/services/{}/zero", segment(&key.to_string())),
        None => "/v1/zero".to_owned(),
    };
    let mut client = context.client().await?;
    Ok(client.command(Method::POST, &path).await?)
}

fn mask(text: &str, key: &ServiceKey) -> Result<Netmask, CliError> {
    Netmask::parse(text, key.family()).map_err(|error| CliError::usage(&error))
}
