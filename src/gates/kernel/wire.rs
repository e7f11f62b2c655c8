//! Jupyter messages and the two forms in which they travel over a WebSocket.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::Trouble;

/// The subprotocol in which a message is one binary frame.
pub(super) const BINARY_PROTOCOL: &str = "v1.kernel.websocket.jupyter.org";

const MESSAGE_VERSION: &str = "5.3";

/// One message of a kernel, or to one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub channel: String,
    pub header: Value,
    pub parent: Value,
    pub content: Value,
}

impl Message {
    /// A request with a fresh id.
    pub fn execute_request(session: &str, code: &str) -> Result<Message, Trouble> {
        let header = json!({
            "msg_id": random_id(16)?,
            "msg_type": "execute_request",
            "session": session,
            "username": "",
            // An empty date is accepted by every server that was tried, and needs no clock.
            "date": "",
            "version": MESSAGE_VERSION,
        });
        let content = json!({
            "code": code,
            "silent": false,
            "store_history": false,
            "user_expressions": {},
            "allow_stdin": false,
            "stop_on_error": true,
        });
        Ok(Message { channel: "shell".to_owned(), header, parent: json!({}), content })
    }

    pub fn id(&self) -> &str {
        self.header["msg_id"].as_str().unwrap_or_default()
    }

    pub fn kind(&self) -> &str {
        self.header["msg_type"].as_str().unwrap_or_default()
    }

    pub fn answers(&self, request: &str) -> bool {
        self.parent["msg_id"].as_str() == Some(request)
    }

    /// A sentence when this message says that the kernel is dying, whoever asked.
    pub fn death(&self) -> Option<String> {
        match (self.kind(), self.content["execution_state"].as_str()) {
            ("status", Some(state @ ("restarting" | "dead" | "autorestarting"))) => {
                Some(format!("the kernel died: it is `{state}`"))
            }
            _ => None,
        }
    }
}

/// How messages are put into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// One JSON text.
    Text,
    /// Offsets, then the parts.
    Binary,
}

impl Encoding {
    /// What the server's choice of a subprotocol means; none at all is the old form.
    pub fn chosen(protocol: Option<&str>) -> Encoding {
        if protocol == Some(BINARY_PROTOCOL) { Encoding::Binary } else { Encoding::Text }
    }

    pub fn encode(self, message: &Message) -> Frame {
        match self {
            Encoding::Text => Frame::text(
                json!({
                    "channel": message.channel,
                    "header": message.header,
                    "parent_header": message.parent,
                    "metadata": {},
                    "content": message.content,
                    "buffers": [],
                })
                .to_string(),
            ),
            Encoding::Binary => {
                let parts = [&message.header, &message.parent, &json!({}), &message.content]
                    .map(|part| part.to_string().into_bytes());
                Frame::binary(join(std::iter::once(message.channel.clone().into_bytes()).chain(parts).collect()))
            }
        }
    }

    /// The message in a frame; `None` for what is none.
    pub fn decode(self, frame: &Frame) -> Option<Message> {
        match (self, frame) {
            (Encoding::Text, Frame::Text(text)) => {
                let mut value: Value = serde_json::from_str(text.as_str()).ok()?;
                let channel = value["channel"].as_str().unwrap_or_default().to_owned();
                let [header, parent, content] = ["header", "parent_header", "content"].map(|key| value[key].take());
                Some(Message { channel, header, parent, content })
            }
            (Encoding::Binary, Frame::Binary(bytes)) => {
                let parts = split(bytes)?;
                let [channel, header, parent, _metadata, content, ..] = parts.as_slice() else { return None };
                let json = |part: &[u8]| serde_json::from_slice(part).ok();
                let channel = String::from_utf8_lossy(channel).into_owned();
                Some(Message { channel, header: json(header)?, parent: json(parent)?, content: json(content)? })
            }
            (Encoding::Text | Encoding::Binary, _) => None,
        }
    }
}

/// Little-endian numbers of eight bytes: how many offsets, then the offsets: where each part begins, and where the
/// last one ends.
fn join(parts: Vec<Vec<u8>>) -> Vec<u8> {
    let count = parts.len() + 1;
    let mut offset = 8 * (1 + count);
    let mut frame = (count as u64).to_le_bytes().to_vec();
    frame.extend((offset as u64).to_le_bytes());
    for part in &parts {
        offset += part.len();
        frame.extend((offset as u64).to_le_bytes());
    }
    frame.extend(parts.concat());
    frame
}

fn split(frame: &[u8]) -> Option<Vec<&[u8]>> {
    let number = |at: usize| {
        let bytes = frame.get(at * 8..at * 8 + 8)?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let count = number(0).filter(|count| *count <= frame.len() / 8)?;
    let offsets = (1..=count).map(number).collect::<Option<Vec<_>>>()?;
    offsets.windows(2).map(|pair| frame.get(pair[0]..pair[1])).collect()
}

/// So many random bytes in hexadecimal digits.
pub(super) fn random_id(bytes: usize) -> Result<String, Trouble> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(|error| Trouble::Blind(format!("this machine gives no chance: {error}")))?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_carry_the_same_message() {
        let message = Message::execute_request("s", "print('ü')").expect("chance is there");
        for encoding in [Encoding::Text, Encoding::Binary] {
            assert_eq!(encoding.decode(&encoding.encode(&message)).as_ref(), Some(&message), "{encoding:?}");
        }
        let Frame::Binary(frame) = Encoding::Binary.encode(&message) else { panic!("not binary") };
        assert_eq!((frame[0], frame[8]), (6, 56));
        assert_eq!(frame[48..56], (frame.len() as u64).to_le_bytes());
    }

    #[test]
    fn broken_frames_are_no_messages() {
        let huge = [&u64::MAX.to_le_bytes()[..], &[0; 64]].concat();
        let backwards = [2u64, 30, 20].map(u64::to_le_bytes).concat();
        for bytes in [vec![], vec![1, 2, 3], huge, backwards, vec![0; 8]] {
            assert_eq!(Encoding::Binary.decode(&Frame::binary(bytes.clone())), None, "{bytes:?}");
        }
        assert_eq!(Encoding::Text.decode(&Frame::text("{")), None);
        assert_eq!(Encoding::Text.decode(&Frame::binary(vec![1])), None);
    }
}
