//! What changes objects: server-side apply and deletion. Only metadata comes back: whoever wants all of an object watches it.

use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use kube::{
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
    client::Body,
    core::{ObjectMeta, PartialObjectMeta, Request, Status},
};
use serde_json::Value;

use super::{Cluster, KubeError, ObjectId, causes, unsaid};

/// How something is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// Take fields over that another manager has.
    pub force: bool,
    /// Try it, change nothing.
    pub dry_run: bool,
    /// Refuse fields that the kind does not have.
    pub strict: bool,
}

/// What the server answered to an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    pub metadata: ObjectMeta,
    /// It was not there before.
    pub created: bool,
}

/// The metadata of an object that is there.
pub type Seen = ObjectMeta;

impl Cluster {
    /// Applies the object server-side; one request.
    pub async fn apply(&self, id: &ObjectId, object: &Value, manager: &str, how: How) -> Result<Applied, KubeError> {
        let api = self.api(id).await?;
        let mut params = PatchParams::apply(manager);
        params = if how.force { params.force() } else { params };
        params = if how.dry_run { params.dry_run() } else { params };
        params = if how.strict { params.validation_strict() } else { params };
        let request = Request::new(api.resource_url()).patch_metadata(&id.name, &params, &Patch::Apply(object));
        let (code, answer) = self.ask(request).await.map_err(|error| error.of(object))?;
        let answer: PartialObjectMeta<kube::api::DynamicObject> = read(&answer)?;
        Ok(Applied { metadata: answer.metadata, created: code == 201 })
    }

    /// The metadata of an object; `None` where it is not.
    pub async fn seen(&self, id: &ObjectId) -> Result<Option<Seen>, KubeError> {
        let api = self.api(id).await?;
        let request = Request::new(api.resource_url()).get_metadata(&id.name, &kube::api::GetParams::default());
        match self.ask(request).await {
            Ok((_, answer)) => {
                let seen: PartialObjectMeta<kube::api::DynamicObject> = read(&answer)?;
                Ok(Some(seen.metadata))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes this very object as it was seen; what depends on it follows. Whether it was still there.
    pub async fn delete(&self, id: &ObjectId, seen: &Seen) -> Result<bool, KubeError> {
        let api = self.api(id).await?;
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: seen.uid.clone(),
                resource_version: seen.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        match self.ask(Request::new(api.resource_url()).delete(&id.name, &params)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends one request and gives the answer's code and body; a refusal is an error.
    fn ask(
        &self,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> BoxFuture<'_, Result<(u16, Vec<u8>), KubeError>> {
        Box::pin(async move {
            let request = request.map_err(|error| KubeError::Unreachable(causes(&error)))?;
            let answer = self.client.send(request.map(Body::from)).await?;
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await?.to_bytes().to_vec();
            match code {
                200..300 => Ok((code, body)),
                _ => Err(KubeError::Refused(Box::new(unsaid::tellable(status_of(code, &body))))),
            }
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, KubeError> {
    serde_json::from_slice(body).map_err(|error| KubeError::Unreachable(format!("an answer cannot be read: {error}")))
}

/// The server's own words; a proxy on the way may answer with other text.
fn status_of(code: u16, body: &[u8]) -> Status {
    let read: Option<Status> = serde_json::from_slice(body).ok().filter(|status: &Status| status.is_failure());
    let mut status = read.unwrap_or_else(|| {
        let text: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect();
        Status::failure(&format!("HTTP {code}: {text}"), "Unknown")
    });
    status.code = code;
    status
}
