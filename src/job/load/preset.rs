//! `train.preset`, and what `train.loss.method` entails.

use toml::{Table as Toml, Value};

use crate::error::{Context, Result, invalid};
use crate::job::Method;
use crate::job::read::{hint, parse_toml};

/// Every preset of `[train]`, by name.
pub(in crate::job) const PRESETS: [(&str, &str); 23] = [
    ("ips-v2", include_str!("../presets/ips-v2.toml")),
    ("dr-v2", include_str!("../presets/dr-v2.toml")),
    ("coat", include_str!("../presets/coat.toml")),
    ("coat-naive", include_str!("../presets/coat-naive.toml")),
    ("coat-ips", include_str!("../presets/coat-ips.toml")),
    ("coat-snips", include_str!("../presets/coat-snips.toml")),
    ("coat-eib", include_str!("../presets/coat-eib.toml")),
    ("coat-dr", include_str!("../presets/coat-dr.toml")),
    ("coat-mrdr", include_str!("../presets/coat-mrdr.toml")),
    ("coat-stable-dr", include_str!("../presets/coat-stable-dr.toml")),
    ("coat-rd-ips", include_str!("../presets/coat-rd-ips.toml")),
    ("coat-rd-dr", include_str!("../presets/coat-rd-dr.toml")),
    ("coat-esmm", include_str!("../presets/coat-esmm.toml")),
    ("coat-multi-ips", include_str!("../presets/coat-multi-ips.toml")),
    ("coat-multi-dr", include_str!("../presets/coat-multi-dr.toml")),
    ("coat-escm2-ips", include_str!("../presets/coat-escm2-ips.toml")),
    ("coat-escm2-dr", include_str!("../presets/coat-escm2-dr.toml")),
    ("coat-ips-v2", include_str!("../presets/coat-ips-v2.toml")),
    ("coat-dr-v2", include_str!("../presets/coat-dr-v2.toml")),
    ("yahoo-r3-ips-v2", include_str!("../presets/yahoo-r3-ips-v2.toml")),
    ("yahoo-r3-dr-v2", include_str!("../presets/yahoo-r3-dr-v2.toml")),
    ("kuairec-ips-v2", include_str!("../presets/kuairec-ips-v2.toml")),
    ("kuairec-dr-v2", include_str!("../presets/kuairec-dr-v2.toml")),
];

/// The settings of the preset of that name, those of presets that it builds on filled in.
///
/// # Errors
/// Where there is none of that name.
pub(in crate::job) fn preset(name: &str) -> Result<Toml> {
    let Some((_, text)) = PRESETS.iter().find(|(known, _)| *known == name) else {
        invalid!("train.preset = {name:?} is unknown{}", hint(name, PRESETS.map(|(known, _)| known)));
    };
    let mut settings = parse_toml(text).context(|| format!("preset {name}"))?;
    if let Some(Value::String(base)) = settings.remove("preset") {
        merge_under(&mut settings, preset(&base)?);
    }
    Ok(settings)
}

/// Puts the settings of `train.preset` under those the job gives.
pub(super) fn merge_preset(job: &mut Toml) -> Result<()> {
    let Some(Value::Table(train)) = job.get_mut("train") else { return Ok(()) };
    if let Some(Value::String(name)) = train.get("preset") {
        let settings = preset(name)?;
        merge_under(train, settings);
    }
    Ok(())
}

/// Puts what `train.loss.method` entails under the settings of the job and its preset.
pub(super) fn merge_method(job: &mut Toml) {
    let Some(Value::Table(train)) = job.get_mut("train") else { return };
    let Some(Value::Table(loss)) = train.get_mut("loss") else { return };
    if let Some(method) = loss.get("method").and_then(Value::as_str).and_then(Method::named) {
        merge_under(loss, method.defaults());
    }
}

fn merge_under(over: &mut Toml, under: Toml) {
    for (key, value) in under {
        match (over.get_mut(&key), value) {
            (Some(Value::Table(over)), Value::Table(under)) => merge_under(over, under),
            (Some(_), _) => {}
            (None, value) => {
                over.insert(key, value);
            }
        }
    }
}
