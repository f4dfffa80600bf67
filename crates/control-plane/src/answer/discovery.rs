//! DiscoverPollEndpoint: where an agent of Amazon's finds its control plane. It is the endpoint that was asked: there is one
//! for everything here.

use ecs::operations::agent::{DiscoverPollEndpointRequest, DiscoverPollEndpointResponse};

use super::{Answer, Context};
use crate::change::Changes;
use crate::names;

pub fn poll_endpoint(
    context: &mut Context,
    request: &DiscoverPollEndpointRequest,
) -> Answer<DiscoverPollEndpointResponse> {
    // "If you do not specify a cluster, the default cluster is assumed"; an agent asks before there is one.
    names::cluster_name(request.cluster.as_deref())?;
    let endpoint = Some(context.caller.endpoint.clone());
    let response = DiscoverPollEndpointResponse {
        endpoint: endpoint.clone(),
        telemetry_endpoint: endpoint.clone(),
        service_connect_endpoint: endpoint,
    };
    Ok((response, Changes::default()))
}
