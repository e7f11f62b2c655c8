//! Without a router: canary pods join the stable Service by its labels, one by one, and leave it in the same way.
//!
//! Pods come up outside of the Service and are let in when they are ready, so that a share never rests on a pod that
//! starts; a pod that is replaced comes up outside again. For all users the Service's selector takes in the canary only.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    Stand, id,
    labels::{self, Labels},
    missing,
    names::{CANARY, TREE},
    ready::{self, Whose},
    replicas_of,
};
use crate::{
    model::{Share, TreeId},
    targets::{
        TargetError,
        kubernetes::traffic::{Router, replicas},
    },
};

impl Stand<'_> {
    /// Lets as many pods in as the share needs, and the others out.
    pub async fn join(&self, tree: Option<&TreeId>, share: Share) -> Result<(), TargetError> {
        let selector = self.stable_selector().await?;
        let stable = self.stable().await?.as_ref().map_or(0, replicas_of);
        let all = self.canary_pods(tree).await?;
        let wanted = match share {
            Share::WHOLE => all.len(),
            share => replicas::joined(stable, share) as usize,
        };
        if share != Share::WHOLE {
            self.narrow(false).await?;
        }
        // Those that are in already come first, so that nobody is moved for nothing.
        let (inside, outside): (Vec<&Value>, Vec<&Value>) = all.iter().partition(|pod| is_in(pod, &selector));
        for pod in outside.iter().take(wanted.saturating_sub(inside.len())) {
            self.label(pod, &selector).await?;
        }
        for pod in inside.iter().skip(wanted) {
            self.label(pod, &self.outside(&selector)).await?;
        }
        let count = u32::try_from(wanted.min(all.len())).unwrap_or(u32::MAX);
        let which = (self.namespace(), self.pair.stable.as_str(), Whose::Of(&self.name));
        ready::wait_endpoints(&self.hand, which, count, self.within(), self.progress).await?;
        if share == Share::WHOLE {
            self.narrow(true).await?;
        }
        Ok(())
    }

    /// What the canary gets by the pods in the stable Service.
    pub async fn joined_share(&self) -> Result<Share, TargetError> {
        let service = &self.pair.stable;
        if self.is_narrowed().await? {
            return Ok(Share::WHOLE);
        }
        let of = |set: BTreeSet<String>| u32::try_from(set.len()).unwrap_or(u32::MAX);
        let canary = ready::endpoints(&self.hand, self.namespace(), service, Whose::Of(&self.name)).await?;
        let stable = ready::endpoints(&self.hand, self.namespace(), service, Whose::NotOf(&self.name)).await?;
        match (of(canary), self.canary_pods(None).await?) {
            // A pod in the Service that is not ready gets nobody, and is still to be let out.
            (0, pods) if !pods.is_empty() && self.any_inside(&pods).await? => Ok(replicas::share(of(stable).max(1), 1)),
            (canary, _) => Ok(replicas::share(of(stable), canary)),
        }
    }

    async fn any_inside(&self, pods: &[Value]) -> Result<bool, TargetError> {
        let selector = self.stable_selector().await?;
        Ok(pods.iter().any(|pod| is_in(pod, &selector)))
    }

    /// Whether the stable Service takes in the canary's pods only.
    pub async fn is_narrowed(&self) -> Result<bool, TargetError> {
        if !matches!(self.track.router, Router::Replicas) {
            return Ok(false);
        }
        let service = self.hand.get(&self.service_id(&self.pair.stable)).await?;
        Ok(service.is_some_and(|service| service["spec"]["selector"][CANARY] == self.name.as_str()))
    }

    async fn narrow(&self, narrow: bool) -> Result<(), TargetError> {
        let service = self.service_id(&self.pair.stable);
        if self.is_narrowed().await? == narrow {
            return Ok(());
        }
        let value = if narrow { Value::from(self.name.as_str()) } else { Value::Null };
        self.hand.merge(&service, &json!({ "spec": { "selector": { CANARY: value } } })).await
    }

    /// Ready pods of stable, whether or not the Service takes them in.
    pub async fn stable_pods_ready(&self) -> Result<usize, TargetError> {
        let Some(stable) = self.stable().await? else { return Ok(0) };
        let selector = labels::read(&stable["spec"]["selector"]["matchLabels"]);
        let pods = self.hand.list(&self.pod_kind(), &text(&selector)).await?;
        let ours = |pod: &&Value| pod["metadata"]["labels"][CANARY].is_null();
        Ok(pods.iter().filter(ours).filter(|pod| ready::pod_is_ready(pod)).count())
    }

    /// Waits until so many of them are ready.
    pub async fn wait_stable_pods(&self, at_least: u32, within: Duration) -> Result<(), TargetError> {
        let id = self.stable_id();
        let stable = self.stable().await?.ok_or_else(|| missing(&id, "there is nothing to go back to"))?;
        let selector = labels::read(&stable["spec"]["selector"]["matchLabels"]);
        let ours = |pod: &&Value| pod["metadata"]["labels"][CANARY].is_null() && ready::pod_is_ready(pod);
        ready::wait(&self.hand, &self.pod_kind(), &text(&selector), within, self.progress, |known| {
            let ready = u32::try_from(known.values().filter(ours).count()).unwrap_or(u32::MAX);
            (ready < at_least).then(|| format!("{id}: {ready} of {at_least} pods are ready"))
        })
        .await
    }

    /// The canary's pods that are ready; of one release, where it is named.
    async fn canary_pods(&self, tree: Option<&TreeId>) -> Result<Vec<Value>, TargetError> {
        let of_tree = tree.map(|tree| format!(",{TREE}={tree}")).unwrap_or_default();
        let mut pods = self.hand.list(&self.pod_kind(), &format!("{CANARY}={}{of_tree}", self.name)).await?;
        pods.retain(|pod| ready::pod_is_ready(pod) || tree.is_none());
        Ok(pods)
    }

    async fn label(&self, pod: &Value, labels: &Labels) -> Result<(), TargetError> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let id = id("v1", "Pod", self.namespace(), name);
        match self.hand.merge(&id, &json!({ "metadata": { "labels": labels } })).await {
            // A pod that is gone is in no Service.
            Err(_) if self.hand.get(&id).await?.is_none() => Ok(()),
            done => done,
        }
    }

    /// Labels that the stable Service does not select.
    fn outside(&self, selector: &Labels) -> Labels {
        selector.keys().next().map(|key| (key.clone(), self.name.clone())).into_iter().collect()
    }

    fn pod_kind(&self) -> crate::clients::kube::ObjectId {
        id("v1", "Pod", self.namespace(), "")
    }
}

fn is_in(pod: &Value, selector: &Labels) -> bool {
    labels::matches(selector, &labels::read(&pod["metadata"]["labels"]))
}

fn text(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
