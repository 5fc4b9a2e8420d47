//! The relay of a program that serves and does nothing else: nobody operates it, and it knows no guests.

use std::error::Error;

use futures_util::future::BoxFuture;
use tidemill_sandbox::{FilterStage, ProjectionStage};

use crate::served::Guests;
use crate::server::{Health, OperateError, OperatedPart, Operator, SourceStatus, SubscriptionStatus};

/// Nothing to operate, no guest that could be named. Such a relay is always healthy and ready, and measures nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Operator for Nobody {
    fn sources(&self) -> Vec<SourceStatus> {
        vec![]
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        vec![]
    }

    fn set_paused(
        &self,
        part: OperatedPart,
        name: &str,
        _: bool,
    ) -> BoxFuture<'static, Result<(), OperateError>> {
        let name = name.to_owned();
        Box::pin(async move { Err(OperateError::NotFound { part, name }) })
    }

    fn shutdown(&self) {}

    fn health(&self) -> Vec<Health> {
        vec![]
    }

    fn ready(&self) -> Vec<Health> {
        vec![]
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}

impl Guests for Nobody {
    fn filters(&self) -> Vec<String> {
        vec![]
    }

    fn projections(&self) -> Vec<String> {
        vec![]
    }

    fn filter(&self, name: &str, _: &str) -> Result<FilterStage, Box<dyn Error + Send + Sync>> {
        Err(format!("this relay has no filter \"{name}\"").into())
    }

    fn projection(&self, name: &str, _: &str) -> Result<ProjectionStage, Box<dyn Error + Send + Sync>> {
        Err(format!("this relay has no projection \"{name}\"").into())
    }

    fn partition(&self, _: &str, _: &str) -> Result<FilterStage, Box<dyn Error + Send + Sync>> {
        Err("this relay has no guests, so it cannot divide a source; ask for all of it".into())
    }
}
