//! `bpvs server`.

use hyper::Method;

use super::args::ServerCommand;
use super::context::segment;
use super::{CliError, Context};
use crate::api::wire;
use crate::model::{Server, ServiceKey};

pub(super) async fn server(context: &Context, command: ServerCommand) -> Result<(), CliError> {
    match command {
        ServerCommand::Add {
            service,
            address,
            weight,
            method,
            upper_threshold,
            lower_threshold,
        } => {
            let server = Server::parse_socket(&address, &service)
                .and_then(|address| Server::new(&service, address, weight, method))
                .map(|server| Server {
                    upper_threshold,
                    lower_threshold,
                    ..server
                })
                .and_then(|server| server.check(&service).map(|()| server))
                .map_err(|error| CliError::usage(&error))?;
            let path = format!("/v1/services/{}/servers", segment(&service.to_string()));
            context
                .client()
                .await?
                .change(Method::POST, &path, &wire::Server::from(&server))
                .await?;
        }
        ServerCommand::Edit {
            service,
            address,
            weight,
            method,
            upper_threshold,
            lower_threshold,
        } => {
            let body = wire::ServerEdit {
                weight,
                method: method.map(|method| method.to_string()),
                upper_threshold,
                lower_threshold,
            };
            let path = path(&service, &address)?;
            context
                .client()
                .await?
                .change(Method::PATCH, &path, &body)
                .await?;
        }
        ServerCommand::Remove { service, address } => {
            let path = path(&service, &address)?;
            context
                .client()
                .await?
                .command(Method::DELETE, &path)
                .await?;
        }
    }
    Ok(())
}

fn path(service: &ServiceKey, address: &str) -> Result<String, CliError> {
    let address =
        Server::parse_socket(address, service).map_err(|error| CliError::usage(&error))?;
    Ok(format!(
        "/v1/services/{}/servers/{}",
        segment(&service.to_string()),
        segment(&address.to_string())
    ))
}
