//! The switch's end, and what every script needs.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rust_openflow::{
    BundleControl, BundleControlType, Connection, Driver, ErrorMsg, Event, FeaturesReply, Field,
    FlowMod, FlowStats, Hello, HelloElement, Match, Message, MultipartBody, MultipartReply,
    Options, connect_stream,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

/// The ONF, which defines the errors of bundles.
pub(crate) const ONF: u32 = 0x4f4e_4600;

/// The switch's end.
pub(crate) struct Peer<S = DuplexStream> {
    pub(crate) stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) async fn read(&mut self) -> (u32, Message) {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).await.unwrap();
        let mut frame = BytesMut::from(&head[..]);
        frame.resize(usize::from(u16::from_be_bytes([head[2], head[3]])), 0);
        self.stream.read_exact(&mut frame[8..]).await.unwrap();
        Message::decode(&frame.freeze()).unwrap()
    }

    pub(crate) async fn write(&mut self, xid: u32, message: Message) {
        let mut out = BytesMut::new();
        message.encode(xid, &mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    pub(crate) async fn shake(&mut self) {
        let hello = Hello { version: 6, elements: vec![HelloElement::VersionBitmap(vec![0x7e])] };
        self.write(1, Message::Hello(hello)).await;
        assert!(matches!(self.read().await, (_, Message::Hello(hello)) if hello.offers(4)));
        let (xid, request) = self.read().await;
        assert_eq!(request, Message::FeaturesRequest);
        // Something may always come in between.
        self.write(0, Message::EchoRequest(Bytes::from_static(b"early"))).await;
        let features = FeaturesReply { datapath_id: 7, n_tables: 254, ..FeaturesReply::default() };
        self.write(xid, Message::FeaturesReply(features)).await;
        assert_eq!(self.read().await.1, Message::EchoReply(Bytes::from_static(b"early")));
        assert!(matches!(self.read().await.1, Message::SetConfig(c) if c.miss_send_len == 0xffff));
    }

    /// Reads a bundle up to its CLOSE; gives the xids of the additions.
    pub(crate) async fn read_bundle(&mut self) -> Vec<u32> {
        let mut xids = Vec::new();
        loop {
            match self.read().await {
                (xid, Message::BundleAdd(add)) => {
                    assert_eq!(add.inner().unwrap().0, xid);
                    xids.push(xid);
                }
                (xid, Message::BundleControl(control)) => {
                    let closes = control.typ == BundleControlType::CLOSE;
                    self.answer(xid, control).await;
                    if closes {
                        return xids;
                    }
                }
                (_, other) => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn answer(&mut self, xid: u32, control: BundleControl) {
        let typ = BundleControlType(control.typ.0 + 1);
        self.write(xid, Message::BundleControl(BundleControl { typ, ..control })).await;
    }
}

/// A refusal defined by the ONF.
pub(crate) fn onf_error(code: u16, data: Bytes) -> Message {
    Message::Error(ErrorMsg { typ: 0xffff, code, experimenter: ONF, data })
}

pub(crate) fn part(flags: u16, tables: &[u8]) -> Message {
    let flow = |table: &u8| FlowStats { table: *table, ..FlowStats::default() };
    let body = MultipartBody::Flow(tables.iter().map(flow).collect());
    Message::MultipartReply(MultipartReply { flags, body })
}

/// Runs both ends and the connection between them, until both are done.
pub(crate) async fn play<A, B>(
    driver: &mut Driver,
    ours: impl Future<Output = A>,
    switch: impl Future<Output = B>,
) -> (A, B) {
    tokio::select! {
        both = async { tokio::join!(ours, switch) } => both,
        ended = driver => panic!("{ended:?}"),
    }
}

pub(crate) fn options() -> Options {
    Options {
        request_timeout: Duration::from_secs(2),
        bundle_timeout: Duration::from_secs(2),
        echo_interval: Duration::from_secs(60),
        ..Options::default()
    }
}

pub(crate) async fn pair(options: Options) -> (Peer, Connection, Driver, mpsc::Receiver<Event>) {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut peer = Peer { stream: theirs };
    let (shaken, ()) = tokio::join!(connect_stream(ours, options), peer.shake());
    let (connection, driver, events) = shaken.unwrap();
    assert_eq!(connection.features().datapath_id, 7);
    (peer, connection, driver, events)
}

pub(crate) fn flows(n: u128) -> Vec<FlowMod> {
    (0..n).map(|n| FlowMod::add(1, 1, Match::new().with(Field::Reg(0), n), [])).collect()
}
