//! What the commands do: hex or text in, text or hex out.

mod hex;

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use clap::{Parser, Subcommand, ValueEnum};
use rust_openflow::text::{self, Names};
use rust_openflow::{FlowMod, Header, Instruction, Message, parts};

/// OpenFlow 1.3 and the extensions of Open vSwitch: bytes to text and back.
///
/// With `-` for HEX or FLOW, every line of standard input is one, and is answered by one line: line breaks inside an
/// answer become `\n`, and what is bad is answered by `error: ` and the reason.
///
/// Exit codes: 0, 1 for what is bad, 2 for wrong usage.
#[derive(Parser)]
#[command(name = "rust-openflow", version, about, long_about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print bytes as ovs-ofctl prints them.
    Print {
        /// What the bytes are.
        #[arg(long = "as", value_enum, default_value_t = Kind::Message, value_name = "KIND")]
        kind: Kind,
        /// The bytes in hex; spaces and 0x may stand between them. `-` reads lines from standard input.
        #[arg(required = true, num_args = 1.., value_name = "HEX")]
        hex: Vec<String>,
    },
    /// Decode bytes, encode them again, and print that in hex.
    Reencode {
        /// What the bytes are.
        #[arg(long = "as", value_enum, default_value_t = Kind::Message, value_name = "KIND")]
        kind: Kind,
        /// The bytes in hex; spaces and 0x may stand between them. `-` reads lines from standard input.
        #[arg(required = true, num_args = 1.., value_name = "HEX")]
        hex: Vec<String>,
    },
    /// Print the flow mod (xid 1) of a flow as ovs-ofctl add-flow takes it, in hex.
    Encode {
        /// The flow. `-` reads lines from standard input.
        #[arg(value_name = "FLOW")]
        flow: String,
    },
    /// Print the messages of a file that holds them back to back, as ovs-ofctl ofp-parse does.
    PrintStream {
        /// The file; `-` is standard input.
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Print the flow mods (xid 1) of a file as ovs-ofctl add-flows takes it, in hex, one a line.
    EncodeFile {
        /// The file. `-` reads lines from standard input.
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Print what would have to change for the flows of A to become those of B: -FLOW and +FLOW.
    Diff {
        /// A file of flows or a dump; `-` is standard input.
        #[arg(value_name = "A")]
        a: String,
        /// Another one.
        #[arg(value_name = "B")]
        b: String,
    },
}

/// What bytes are.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A whole message with its header.
    Message,
    /// An `ofp_match`: type 1, length, fields; the padding may be missing.
    Match,
    /// A list of actions.
    Actions,
    /// A list of instructions.
    Instructions,
}

/// Why something could not be done.
type Failure = Box<dyn Error + Send + Sync>;

/// Parses the arguments and does what they say.
pub(crate) fn run() -> ExitCode {
    let args = Args::parse();
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let done = dispatch(args.command, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match done {
        Ok(code) => code,
        // Whoever reads has had enough.
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = out.flush();
            // There is nowhere left to say that this failed.
            let _ = writeln!(io::stderr(), "error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn is_closed(error: &Failure) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// An error and what caused it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // Some errors say their cause themselves.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

fn dispatch(command: Command, out: &mut impl Write) -> Result<ExitCode, Failure> {
    match command {
        Command::Print { kind, hex } => one_or_lines(&hex.join(" "), out, |text| print(kind, text)),
        Command::Reencode { kind, hex } => {
            one_or_lines(&hex.join(" "), out, |text| reencode(kind, text))
        }
        Command::Encode { flow } => one_or_lines(&flow, out, encode),
        Command::PrintStream { file } => print_stream(&file, out),
        Command::EncodeFile { file } if file == "-" => one_or_lines(&file, out, encode),
        Command::EncodeFile { file } => {
            let text = read_text(&file)?;
            let flows = text::parse_flows(&text).map_err(|error| format!("{file}: {error}"))?;
            for flow in flows {
                writeln!(out, "{}", flow_hex(flow)?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Diff { a, b } => {
            if a == "-" && b == "-" {
                return Err("only one of the two can be standard input".into());
            }
            write!(out, "{}", text::diff(&read_text(&a)?, &read_text(&b)?)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Answers one item, or every line of standard input where the item is `-`.
fn one_or_lines(
    item: &str,
    out: &mut impl Write,
    answer: impl Fn(&str) -> Result<String, Failure>,
) -> Result<ExitCode, Failure> {
    if item != "-" {
        let text = answer(item)?;
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write!(out, "{text}{end}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut line = Vec::new();
    while {
        line.clear();
        input.read_until(b'\n', &mut line)? > 0
    } {
        let text = std::str::from_utf8(&line).map_err(|_| "line is not UTF-8".into());
        let answered = text.and_then(|text| answer(text.trim_end_matches(['\n', '\r'])));
        match answered {
            Ok(text) => write_line(out, text.strip_suffix('\n').unwrap_or(&text))?,
            Err(error) => {
                out.write_all(b"error: ")?;
                write_line(out, &chain(&*error))?;
            }
        }
        // Whoever waits for an answer before the end of the next line must get it.
        if !input.buffer().contains(&b'\n') {
            out.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes an answer as one line.
fn write_line(out: &mut impl Write, text: &str) -> io::Result<()> {
    for (n, part) in text.split('\n').enumerate() {
        if n > 0 {
            out.write_all(b"\\n")?;
        }
        out.write_all(part.as_bytes())?;
    }
    out.write_all(b"\n")
}

fn print(kind: Kind, hex: &str) -> Result<String, Failure> {
    let bytes = hex::decode(hex)?;
    let none = Names::default();
    let actions = |list: &[Instruction]| format!("actions={}", text::instructions(list, &none));
    Ok(match kind {
        Kind::Message => text::print(&bytes)?,
        Kind::Match => text::matching(&parts::decode_match(&bytes)?, &none),
        Kind::Actions => actions(&[Instruction::ApplyActions(parts::decode_actions(&bytes)?)]),
        Kind::Instructions => actions(&parts::decode_instructions(&bytes)?),
    })
}

fn reencode(kind: Kind, hex: &str) -> Result<String, Failure> {
    let bytes = hex::decode(hex)?;
    let mut out = BytesMut::with_capacity(bytes.len());
    match kind {
        Kind::Message => {
            let (xid, message) = Message::decode(&bytes)?;
            message.encode(xid, &mut out)?;
        }
        Kind::Match => parts::encode_match(&parts::decode_match(&bytes)?, &mut out)?,
        Kind::Actions => parts::encode_actions(&parts::decode_actions(&bytes)?, &mut out)?,
        Kind::Instructions => {
            parts::encode_instructions(&parts::decode_instructions(&bytes)?, &mut out)?;
        }
    }
    Ok(hex::encode(&out))
}

fn encode(flow: &str) -> Result<String, Failure> {
    flow_hex(text::parse_flow_mod(flow)?)
}

fn flow_hex(flow: FlowMod) -> Result<String, Failure> {
    let mut out = BytesMut::new();
    Message::FlowMod(flow).encode(1, &mut out)?;
    Ok(hex::encode(&out))
}

/// Prints message after message. A bad one is named on standard error, and the next goes on behind it; where none
/// can be found any more, that is the end.
fn print_stream(file: &str, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let mut input: Box<dyn Read> = if file == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(fs::File::open(file).map_err(|error| format!("{file}: {error}"))?)
    };
    let mut input = BufReader::with_capacity(1 << 17, &mut *input);
    let (mut offset, mut code) = (0_u64, ExitCode::SUCCESS);
    loop {
        let mut head = [0; Header::LEN];
        match read_full(&mut input, &mut head)? {
            0 => return Ok(code),
            Header::LEN => {}
            had => return Err(format!("{file}: {had} bytes of a header at {offset}").into()),
        }
        let header = Header::decode(head).map_err(|error| format!("{file}: {offset}: {error}"))?;
        let length = usize::from(header.length);
        let mut frame = BytesMut::zeroed(length);
        let (front, body) = frame.split_at_mut(Header::LEN);
        front.copy_from_slice(&head);
        let had = read_full(&mut input, body)? + Header::LEN;
        if had < length {
            return Err(format!("{file}: {had} of {length} bytes of a message at {offset}").into());
        }
        let frame: Bytes = frame.freeze();
        match text::print(&frame) {
            Ok(text) => out.write_all(text.as_bytes())?,
            Err(error) => {
                out.flush()?;
                writeln!(io::stderr(), "error: {file}: message at {offset}: {}", chain(&error))?;
                code = ExitCode::FAILURE;
            }
        }
        offset += u64::from(header.length);
    }
}

/// Reads until the buffer is full or the input ends; gives the bytes read.
fn read_full(input: &mut impl Read, mut buffer: &mut [u8]) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match input.read(buffer) {
            Ok(0) => break,
            Ok(n) => buffer = buffer.get_mut(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}

fn read_text(file: &str) -> Result<String, Failure> {
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.map_err(|error| format!("{file}: {error}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{file}: not UTF-8").into())
}
