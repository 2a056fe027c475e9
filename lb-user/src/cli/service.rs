//! `bpvs service`.

use hyper::Method;

use super::args::{ServiceCommand, TimeoutEdit};
use super::context::segment;
use super::{CliError, Context};
use crate::api::wire;
use crate::model::{Service, ServiceTimeouts, format_duration};

pub(super) async fn service(context: &Context, command: ServiceCommand) -> Result<(), CliError> {
    match command {
        ServiceCommand::Add {
            key,
            scheduler,
            source_nat,
            answer,
            tcp_timeout,
            udp_timeout,
        } => {
            let timeouts = ServiceTimeouts {
                tcp: tcp_timeout,
                udp: udp_timeout,
            };
            let service = Service {
                source_nat,
                answer,
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
            source_nat,
            answer,
            tcp_timeout,
            udp_timeout,
        } => {
            let timeout = |edit: Option<TimeoutEdit>| {
                edit.map(|TimeoutEdit(timeout)| {
                    timeout.map_or_else(|| "default".into(), format_duration)
                })
            };
            let body = wire::ServiceEdit {
                scheduler: scheduler.map(|scheduler| scheduler.to_string()),
                source_nat: source_nat.map(Into::into),
                answer,
                tcp_timeout: timeout(tcp_timeout),
                udp_timeout: timeout(udp_timeout),
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
    }
    Ok(())
}
