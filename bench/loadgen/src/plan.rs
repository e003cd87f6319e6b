//! What one answer consists of: which bytes go out with which send(2), and when. The floor plays a plan; `probe`
//! makes one from what a daemon really does.

use serde::{Deserialize, Serialize};

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In order; at least one.
    pub sends: Vec<Send>,
}

/// The bytes of one send(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// How many intervals after the handoff; never less than the one before.
    pub slot: u32,
    /// Head or frames as they go over the wire.
    pub text: String,
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
    Connection: close\r\nX-Accel-Buffering: no\r\n\r\n";

const PIECES: [&str; 18] = [
    "Hello",
    "! ",
    "You ",
    "asked ",
    "about ",
    "\\\"Hello ",
    "from ",
    "the ",
    "load ",
    "generator\\\". ",
    "This ",
    "answer ",
    "was ",
    "served ",
    "by ",
    "the ",
    "floor. ",
    "[DONE-CONTENT]",
];

impl Default for Plan {
    /// The shape of the mock backend: the head goes with the first of 18 pieces, the other pieces follow one interval
    /// apart, `[DONE]` right behind the last with a send of its own.
    fn default() -> Self {
        let frame = |piece: &str| format!("data: {{\"content\":\"{piece}\"}}\n\n");
        let mut sends: Vec<Send> = PIECES
            .iter()
            .zip(0..)
            .map(|(piece, slot)| Send {
                slot,
                text: frame(piece),
            })
            .collect();
        sends[0].text.insert_str(0, HEAD);
        sends.push(Send {
            slot: PIECES.len() as u32 - 1,
            text: "data: [DONE]\n\n".into(),
        });
        Plan { sends }
    }
}

impl Plan {
    /// Reads a plan that `probe` wrote.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let plan: Plan = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if plan.sends.is_empty() || plan.sends.iter().any(|s| s.text.is_empty()) {
            return Err("a plan needs at least one send, and each needs bytes".into());
        }
        if !plan.sends.is_sorted_by_key(|s| s.slot) {
            return Err("the slots of a plan must not decrease".into());
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::SseCounter;

    #[test]
    fn the_default_is_an_answer_of_nineteen_events() {
        let mut counter = SseCounter::default();
        for send in Plan::default().sends {
            counter.feed(send.text.as_bytes());
        }
        assert_eq!(
            (counter.status, counter.events, counter.done, counter.errors),
            (Some(200), 19, true, 0)
        );
    }

    #[test]
    fn a_plan_survives_its_file_and_bad_ones_are_refused() {
        let text = serde_json::to_string(&Plan::default()).unwrap();
        assert_eq!(Plan::from_json(&text), Ok(Plan::default()));
        assert!(Plan::from_json(r#"{"sends":[]}"#).is_err());
        assert!(
            Plan::from_json(r#"{"sends":[{"slot":1,"text":"a"},{"slot":0,"text":"b"}]}"#).is_err()
        );
    }
}
