//! Messages on the wire that are known by their description only.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Reads messages of one kind, and writes whatever it is given.
#[derive(Debug, Clone)]
pub(super) struct MessageCodec(MessageDescriptor);

impl MessageCodec {
    pub(super) fn new(reads: MessageDescriptor) -> MessageCodec {
        MessageCodec(reads)
    }
}

impl Codec for MessageCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = MessageCodec;
    type Decoder = MessageCodec;

    fn encoder(&mut self) -> MessageCodec {
        self.clone()
    }

    fn decoder(&mut self) -> MessageCodec {
        self.clone()
    }
}

impl Encoder for MessageCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, bytes: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(bytes).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for MessageCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let read = DynamicMessage::decode(self.0.clone(), bytes);
        read.map(Some).map_err(|error| {
            Status::invalid_argument(format!("the message is no {}: {error}", self.0.full_name()))
        })
    }
}
