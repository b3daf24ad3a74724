//! Which agents are connected, asked of all managers.
//!
//! Why this is asked at all: the end of a connection is written down by the manager that held it, and a manager that
//! dies together with an agent writes nothing. The leader compares what is recorded with what the living hold.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use skep_wire::channels::Purpose;
use skep_wire::proto::peer::tunnel_client::TunnelClient;
use skep_wire::proto::peer::{Empty, HeldAgent, HeldAgentsReply};
use tokio::time::timeout;
use tonic::Code;

use crate::Hub;

/// A manager that does not say by then which agents it holds counts as holding none: whoever cannot be asked cannot be
/// gone through to an engine either.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What the managers said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RollCall {
    /// Host and session of every agent that is connected to a manager that answered.
    pub held: BTreeSet<(String, String)>,
    /// A manager lives that does not know the question, because it is of an earlier version: nothing can be concluded
    /// from an agent that is not held.
    pub incomplete: bool,
}

/// One manager's answer.
enum Answer {
    Holds(Vec<HeldAgent>),
    Silent,
    DoesNotKnow,
}

impl Hub {
    /// Asks all managers at once which agents are connected to them.
    pub async fn roll_call(&self) -> RollCall {
        let nodes = self.shared.channels.nodes().into_iter().filter(|node| *node != self.shared.node);
        let answers = join_all(nodes.map(|node| self.ask_what_it_holds(node))).await;
        let mut call =
            RollCall { held: self.shared.sessions.held().into_iter().collect(), incomplete: false };
        for answer in answers {
            match answer {
                Answer::Holds(agents) => {
                    call.held.extend(agents.into_iter().map(|agent| (agent.host_id, agent.session)));
                }
                Answer::Silent => {}
                Answer::DoesNotKnow => call.incomplete = true,
            }
        }
        call
    }

    /// What another manager is answered.
    pub(crate) fn held_here(&self) -> HeldAgentsReply {
        let held = self.shared.sessions.held().into_iter();
        HeldAgentsReply { agents: held.map(|(host_id, session)| HeldAgent { host_id, session }).collect() }
    }

    async fn ask_what_it_holds(&self, node: u64) -> Answer {
        // Not the tunnels' own connection: an upload that fills it must not make agents look lost.
        let Ok(channel) = self.shared.channels.get_for(node, Purpose::Heartbeat) else {
            return Answer::Silent;
        };
        let mut client = TunnelClient::new(channel);
        match timeout(ANSWER_MAX, client.held_agents(Empty {})).await {
            Ok(Ok(reply)) => Answer::Holds(reply.into_inner().agents),
            Ok(Err(status)) if status.code() == Code::Unimplemented => Answer::DoesNotKnow,
            Ok(Err(_)) | Err(_) => Answer::Silent,
        }
    }
}
