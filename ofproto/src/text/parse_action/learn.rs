//! The arguments of `learn`.

use super::{refused, subfield, unsigned};
use crate::action::{
    Action, LearnAction, LearnSource, LearnSpec, LearnTarget, Subfield, immediate_len, learn_flags,
};
use crate::oxm::{Field, ones};
use crate::text::Names;
use crate::text::parse::{Pair, ParseError, integer64, pairs};
use crate::text::parse_match::parse_prefixed;

pub(super) fn learn(argument: &str, names: &Names) -> Result<Option<Action>, ParseError> {
    let mut learn = LearnAction::default();
    for pair in pairs(argument) {
        let Pair { key, value, .. } = pair?;
        let refuse = || refused("learn", &format!("{key}={value}"));
        match key {
            "table" => {
                let table = names.read_table(value).filter(|table| *table != 0xff);
                learn.table = table.ok_or_else(refuse)?;
            }
            "idle_timeout" => learn.idle_timeout = unsigned(value).ok_or_else(refuse)?,
            "hard_timeout" => learn.hard_timeout = unsigned(value).ok_or_else(refuse)?,
            "fin_idle_timeout" => learn.fin_idle_timeout = unsigned(value).ok_or_else(refuse)?,
            "fin_hard_timeout" => learn.fin_hard_timeout = unsigned(value).ok_or_else(refuse)?,
            "priority" => learn.priority = unsigned(value).ok_or_else(refuse)?,
            "cookie" => learn.cookie = integer64(value).ok_or_else(refuse)?,
            "send_flow_rem" => learn.flags |= learn_flags::SEND_FLOW_REM,
            "delete_learned" => learn.flags |= learn_flags::DELETE_LEARNED,
            "limit" => learn.limit = unsigned(value).ok_or_else(refuse)?,
            "result_dst" => {
                let result =
                    subfield(value).filter(|run| run.bits == 1 && !run.field.is_read_only());
                learn.result = Some(result.ok_or_else(refuse)?);
            }
            _ => learn.specs.push(learn_spec(key, value, names).ok_or_else(refuse)?),
        }
    }
    Ok(Some(Action::Learn(learn)))
}

fn learn_spec(key: &str, value: &str, names: &Names) -> Option<LearnSpec> {
    let source = |run: Subfield| LearnSource::Field(run.field, run.offset);
    match key {
        "load" => {
            let (from, dst) = value.split_once("->")?;
            let dst = subfield(dst).filter(|dst| !dst.field.is_read_only())?;
            let source = match subfield(from) {
                Some(from) if from.bits == dst.bits => source(from),
                Some(_) => return None,
                None => immediate(unsigned(from)?, dst.bits)?,
            };
            let target = LearnTarget::Load(dst.field, dst.offset);
            return Some(LearnSpec { bits: dst.bits, source, target });
        }
        "output" => {
            let from = subfield(value)?;
            let target = LearnTarget::Output;
            return Some(LearnSpec { bits: from.bits, source: source(from), target });
        }
        _ => {}
    }
    let whole = Field::from_action_name(key).filter(|_| !key.contains('['));
    let dst = whole.map(Subfield::whole).or_else(|| subfield(key))?;
    let target = LearnTarget::Match(dst.field, dst.offset);
    let from = if value.is_empty() { Some(dst) } else { subfield(value) };
    let source = match (from, whole) {
        (Some(from), _) if from.bits == dst.bits => source(from),
        (Some(_), _) => return None,
        (None, Some(field)) => {
            let (value, mask) = parse_prefixed(field, value, names)?;
            immediate(Some(value).filter(|_| mask == field.exact_mask())?, dst.bits)?
        }
        (None, None) => immediate(unsigned(value)?, dst.bits)?,
    };
    Some(LearnSpec { bits: dst.bits, source, target })
}

/// A number as the bytes of a learn, if it fits its bits.
fn immediate(value: u128, bits: u16) -> Option<LearnSource> {
    if value > ones(bits) {
        return None;
    }
    let length = immediate_len(bits);
    let bytes = value.to_be_bytes();
    let mut all = vec![0; length.saturating_sub(bytes.len())];
    all.extend(bytes.get(bytes.len().saturating_sub(length)..)?);
    Some(LearnSource::Immediate(all.into()))
}
