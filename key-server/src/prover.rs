//! Has the broker prove over this server's own connection that what receipts show of its log is of one
//! log (TLOG-7). A broker that cannot be reached proves nothing, and has not forked.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ticket_format::cbor::{Decode, Encode};
use ticket_format::limits;
use ticket_format::messages::consistency::{ConsistencyAnswer, ConsistencyBody};
use ticket_format::messages::{AnswerView, Request, Verb};
use tokio::task::JoinSet;
use transport::Connection;

use crate::broker_log::{Known, Said};
use crate::service::Service;

/// Time that an answer may take.
const WAIT: Duration = Duration::from_secs(2);
/// Between two looks at what was seen.
const PAUSE: Duration = Duration::from_secs(1);
/// Rounds in one look: each fails to tie a checkpoint only if the log grew in that moment.
const ROUNDS: usize = 8;

/// Asks at once, and then whenever something new was seen, for as long as it is polled.
pub async fn run(service: &Arc<Service>, connection: &Connection) -> Infallible {
    loop {
        let mut again = true;
        for _ in 0..ROUNDS {
            let asked = service.state.broker_log.ask();
            if asked.is_empty() {
                again = false;
                break;
            }
            let said = ask(connection, &asked).await;
            let silent = said.iter().all(Option::is_none);
            again = service.broker_said(asked, said).await;
            if silent || !again {
                break;
            }
        }
        // rule: TLOG-7
        tokio::time::sleep(PAUSE).await;
        if !again {
            service.state.broker_log.news().await;
        }
    }
}

/// Asks about all of them at the same time, so that the answers end at the same checkpoint if they can.
async fn ask(connection: &Connection, asked: &[Known]) -> Vec<Option<Said>> {
    let mut asking = JoinSet::new();
    for (place, known) in asked.iter().enumerate() {
        let body = ConsistencyBody::of(known.note.to_string());
        let request = Request::encode_parts(Verb::Consistency, &body.to_cbor(), &[]);
        let connection = connection.clone();
        asking.spawn(async move {
            let answer = connection.exchange_within(&request, WAIT).await;
            (place, answer.ok().map(|answer| read(&answer)))
        });
    }
    let mut said = vec![None; asked.len()];
    while let Some(done) = asking.join_next().await {
        if let Ok((place, answer)) = done
            && let Some(said) = said.get_mut(place)
        {
            *said = answer;
        }
    }
    said
}

fn read(answer: &[u8]) -> Said {
    let body = match AnswerView::parse(answer) {
        Ok(AnswerView::Done {
            verb: Verb::Consistency,
            body,
            ..
        }) => body,
        Ok(AnswerView::Done { .. }) => {
            return Said::Malformed(ticket_format::cbor::DecodeError::OutOfRange("verb"));
        }
        Ok(AnswerView::Refused(notice)) => return Said::Refused(notice.refusal),
        Err(error) => return Said::Malformed(error),
    };
    match ConsistencyAnswer::from_cbor(body, limits::MESSAGE) {
        Ok(answer) => Said::Answer(Box::new(answer)),
        Err(error) => Said::Malformed(error),
    }
}
