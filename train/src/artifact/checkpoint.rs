//! The checkpoint of an unfinished run, from which another run resumes it.
//!
//! The folder `resume/` of the model folder holds files named after their content, and `state.toml`, written last, which
//! names them: a reader finds the complete state of one epoch, no matter when the writer was killed. TOML, since it
//! gives back every number as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;
use url::Url;

use crate::artifact::model_folder::{
    content_name, content_of, deserialize, read_named, read_tensor, remove, serialize, to_safetensors, unreadable,
};
use crate::fit::ensemble::EnsembleState;
use crate::fit::trainer::{Fitted, TrainingState};
use counterweight::error::{Context, Error, Result, invalid};
use counterweight::job::{Job, Resume, TrainSpec, settings_of};
use counterweight::model::{DataRecord, EpochRecord, Manifest, Stop};
use counterweight::output::Outputs;
use counterweight::redact::redact;
use counterweight::storage::{Storage, child};

/// The version of the layout.
const FORMAT: u32 = 1;
const FOLDER: &str = "resume/";
const STATE: &str = "state.toml";

/// Keys that say how long a run lasts.
const LENGTH: [&str; 2] = ["train.evaluation.patience", "train.optimizer.epochs"];

/// All that decides the weights of a run, by name: the keys of its job, what its queries gave, its device, the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Run(BTreeMap<String, String>);

impl Run {
    /// The run of `job` on `device`; `vocabularies` are the names of the users' and items' files in a model folder.
    pub(crate) fn new(job: &Job, device: &str, data: &DataRecord, vocabularies: [&str; 2]) -> Result<Self> {
        let text = serde_json::to_string(job).map_err(std::io::Error::from)?;
        // A number read from JSON may differ in its last bit, here as in a manifest.
        let job = serde_json::from_str(&text).map_err(std::io::Error::from)?;
        Ok(Self::from_parts(&job, device, data, vocabularies, env!("CARGO_PKG_VERSION")))
    }

    /// The run that wrote `manifest`.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let version = manifest.versions.get("counterweight").map_or("", String::as_str);
        let vocabularies = [manifest.users.file.as_str(), manifest.items.file.as_str()];
        Self::from_parts(&manifest.job, &manifest.training.device, &manifest.data, vocabularies, version)
    }

    fn from_parts(job: &Value, device: &str, data: &DataRecord, [users, items]: [&str; 2], version: &str) -> Self {
        let settings = settings_of(job).into_iter();
        let mut run: BTreeMap<_, _> = settings.map(|(key, value)| (key, value.to_string())).collect();
        run.insert("device".to_owned(), device.to_owned());
        run.insert("the list of users".to_owned(), content_of(users).to_owned());
        run.insert("the list of items".to_owned(), content_of(items).to_owned());
        run.insert("the version of counterweight".to_owned(), version.to_owned());
        for (split, set) in &data.sets {
            let rows = format!("{} rows, {} of them treated, with hash {}", set.rows, set.treated, set.hash);
            run.insert(format!("the data that {split} gives"), rows);
        }
        if let Some(hash) = &data.covariates {
            run.insert("the covariates that population.users and population.items give".to_owned(), hash.clone());
        }
        Self(run)
    }

    /// The first key in which `now` differs from this run, with both values; keys in `but` may differ.
    fn difference(&self, now: &Self, but: &[&str]) -> Option<String> {
        let keys: BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        keys.into_iter().filter(|key| !but.contains(&key.as_str())).find_map(|key| {
            let value = |run: &Self| run.0.get(key).cloned().unwrap_or_else(|| "not set".to_owned());
            let (was, is) = (value(self), value(now));
            (was != is).then(|| format!("{key} was {was} and is {is}"))
        })
    }

    /// Whether `manifest` is of a run like this one that has ended well.
    pub(crate) fn has_made(&self, manifest: &Manifest) -> bool {
        manifest.training.stop.is_good() && self.difference(&Self::of(manifest), &[]).is_none()
    }
}

/// A member of the ensemble that is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Finished {
    best_epoch: usize,
    models: String,
    stop: Stop,
    history: Vec<EpochRecord>,
}

/// What `state.toml` says.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    format: u32,
    best_epoch: usize,
    /// The models as the last epoch left them.
    models: String,
    /// Those of the best epoch.
    best: String,
    /// The state of Adam, `MODEL.mean`, `MODEL.square` and `MODEL.steps`.
    optimizers: String,
    run: Run,
    history: Vec<EpochRecord>,
    #[serde(default)]
    finished: Vec<Finished>,
}

impl Checkpoint {
    fn files(&self) -> BTreeSet<String> {
        let of_finished = self.finished.iter().map(|member| &member.models);
        [&self.models, &self.best, &self.optimizers].into_iter().chain(of_finished).cloned().collect()
    }
}

/// Where a run writes its checkpoints, each in place of the one before.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    storage: Arc<Storage>,
    folder: Url,
    run: Run,
    every: Duration,
    since: Instant,
    /// What is there.
    found: Option<Checkpoint>,
    /// Files that are there and belong together.
    files: BTreeSet<String>,
    /// The members whose files are among them.
    finished: Vec<Finished>,
    /// The last epoch, where it is yet to be written.
    pending: Option<Encoded>,
}

/// A checkpoint, and the contents of its files.
#[derive(Debug)]
struct Encoded {
    checkpoint: Checkpoint,
    files: BTreeMap<String, Vec<u8>>,
}

impl Checkpoints {
    /// Those of `run`, whose model is to be written to `output`; finds the checkpoint that an earlier run left there.
    pub(crate) async fn open(storage: &Arc<Storage>, output: &Url, run: Run, every: Duration) -> Result<Self> {
        let folder = child(output, FOLDER)?;
        let url = child(&folder, STATE)?;
        let found = storage.read_if_present(&url).await?;
        let parse = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).map_err(|error| Error::Invalid(error.to_string()))?;
            toml::from_str::<Checkpoint>(&text).map_err(|error| Error::Invalid(error.to_string()))
        };
        let found = match found.map(parse).transpose() {
            Ok(Some(state)) if state.format != FORMAT => {
                tracing::warn!(
                    "{url} has format {}, and this version reads format {FORMAT}: it is ignored",
                    state.format
                );
                None
            }
            Ok(Some(state)) if !state.files().iter().all(|name| is_of_checkpoint(name)) => {
                tracing::warn!("{url} names files that are none of a run's, and is ignored");
                None
            }
            Ok(state) => state,
            Err(error) => {
                tracing::warn!("{url} is not the state of a run, and is ignored: {error}");
                None
            }
        };
        let files = found.iter().flat_map(Checkpoint::files).collect();
        let (storage, since, finished) = (Arc::clone(storage), Instant::now(), Vec::new());
        Ok(Self { storage, folder, run, every, since, found, files, finished, pending: None })
    }

    /// The epochs done by the unfinished run that was found, of all members.
    pub(crate) fn epochs(&self) -> Option<usize> {
        let of_finished = |state: &Checkpoint| state.finished.iter().map(|member| member.history.len()).sum::<usize>();
        self.found.as_ref().map(|state| of_finished(state) + state.history.len())
    }

    /// The state that was found; none where there was none, or where it is of another run and only the same one is to be
    /// resumed.
    ///
    /// # Errors
    /// Where it is of another run, or has more epochs than this one is to have; where a file is missing or damaged.
    pub(crate) async fn load(&mut self, spec: &TrainSpec, device: Device) -> Result<Option<EnsembleState>> {
        let Some(found) = self.found.take() else { return Ok(None) };
        let what = format!("cannot resume the run whose state is at {}", self.folder);
        // Members that are done would have been longer or shorter, too.
        let may_differ = if found.finished.is_empty() { &LENGTH[..] } else { &[] };
        if let Some(difference) = found.run.difference(&self.run, may_differ) {
            if spec.checkpoint.resume == Resume::IfSame {
                tracing::warn!(
                    "training starts anew, and does not resume the run whose state is at {}: {difference}",
                    self.folder
                );
                return Ok(None);
            }
            invalid!(
                "{what}: {difference}; give it what it began with, train anew without --resume, or say \
                 --resume=if-same (train.checkpoint.resume = \"if-same\"), which then starts anew by itself"
            );
        }
        let (done, epochs) = (found.history.len(), spec.optimizer.epochs);
        if done > epochs {
            invalid!("{what}: it has done {done} epochs, and train.optimizer.epochs = {epochs}; give at least {done}");
        }
        let read = async |name: &String| read_named(&self.storage, &self.folder, name).await.context(|| &what);
        let models = async |name: &String| deserialize(&read(name).await?, device).context(|| &what);
        let mut finished = Vec::with_capacity(found.finished.len());
        for Finished { best_epoch, models: name, stop, history } in found.finished.clone() {
            finished.push(Fitted { models: models(&name).await?, best_epoch, history, stop });
        }
        let mut state = TrainingState::new(spec, finished.len(), models(&found.models).await?);
        state.best = Some((found.best_epoch, models(&found.best).await?));
        state.history = found.history;

        let bytes = read(&found.optimizers).await?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(unreadable).context(|| &what)?;
        for (model, adam) in state.optimizers.named_mut() {
            adam.restore(|part| read_tensor(&tensors, &format!("{model}.{part}"), device)).context(|| &what)?;
        }
        self.finished = found.finished;
        Ok(Some(EnsembleState { finished, current: state }))
    }

    /// Writes `state` of a member, with those that are `finished`, if it is time or has to be `now`. That of an epoch which
    /// took long is kept in memory until then, for [`Self::flush`].
    pub(crate) async fn save(&mut self, finished: &[Fitted], state: &TrainingState, now: bool) -> Result<()> {
        self.pending = None;
        let is_due = now || self.since.elapsed() >= self.every;
        if !is_due && state.is_quick() {
            return Ok(());
        }
        let Some(encoded) = self.encode(finished, state)? else { return Ok(()) };
        match is_due {
            true => self.write(encoded).await,
            false => {
                self.pending = Some(encoded);
                Ok(())
            }
        }
    }

    /// Writes the last epoch, if it has not been written: training ends before its time.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(encoded) => self.write(encoded).await,
            None => Ok(()),
        }
    }

    fn encode(&self, finished: &[Fitted], state: &TrainingState) -> Result<Option<Encoded>> {
        let Some((best_epoch, best)) = &state.best else { return Ok(None) };
        let mut moments = BTreeMap::new();
        for (model, adam) in state.optimizers.named() {
            moments.extend(adam.state().map(|(part, tensor)| (format!("{model}.{part}"), tensor)));
        }
        let file = |stem: &str, bytes: Vec<u8>| (content_name(stem, "safetensors", &bytes), bytes);
        let models = file("models", serialize(&state.models)?.0);
        let best = file("models", serialize(best)?.0);
        let optimizers = file("optimizers", to_safetensors(&moments)?);
        let mut new = vec![];
        let mut members = self.finished.clone();
        for Fitted { models, best_epoch, history, stop } in &finished[members.len()..] {
            let (name, bytes) = file("models", serialize(models)?.0);
            let (best_epoch, history, stop) = (*best_epoch, history.clone(), stop.clone());
            members.push(Finished { best_epoch, models: name.clone(), stop, history });
            new.push((name, bytes));
        }
        let checkpoint = Checkpoint {
            format: FORMAT,
            best_epoch: *best_epoch,
            models: models.0.clone(),
            best: best.0.clone(),
            optimizers: optimizers.0.clone(),
            run: self.run.clone(),
            history: state.history.clone(),
            finished: members,
        };

        new.extend([models, best, optimizers]);
        Ok(Some(Encoded { checkpoint, files: new.into_iter().collect() }))
    }

    async fn write(&mut self, Encoded { checkpoint: written, files: new }: Encoded) -> Result<()> {
        let new = new.into_iter().filter(|(name, _)| !self.files.contains(name));
        Outputs::write(async |outputs| self.stage(new, &written, &outputs).await).await?;
        let files = written.files();
        self.finished = written.finished;
        for old in std::mem::replace(&mut self.files, files).difference(&self.files) {
            remove(&self.storage, &child(&self.folder, old)?).await;
        }
        self.since = Instant::now();
        Ok(())
    }

    async fn stage(
        &self,
        files: impl Iterator<Item = (String, Vec<u8>)>,
        state: &Checkpoint,
        outputs: &Outputs,
    ) -> Result<()> {
        for (name, bytes) in files {
            outputs.put(&self.storage, &child(&self.folder, &name)?, &bytes).await?;
        }
        let text = toml::to_string(state).map_err(std::io::Error::other)?;
        outputs.put(&self.storage, &child(&self.folder, STATE)?, redact(&text).as_bytes()).await
    }

    /// Removes the state of a run that has ended, with what killed runs may have left beside it.
    pub(crate) async fn remove(self) {
        let is_ours = |name: &str| name == STATE || is_of_checkpoint(name);
        if let Err(error) = self.storage.remove_files(&self.folder, is_ours).await {
            tracing::warn!("the state of the run, which has ended, is left behind at {}: {error}", self.folder);
        }
    }
}

/// Whether a checkpoint's file may be called so: after its content.
fn is_of_checkpoint(name: &str) -> bool {
    let hash = ["models-", "optimizers-"].iter().find_map(|stem| name.strip_prefix(stem)?.strip_suffix(".safetensors"));
    hash.is_some_and(|hash| !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
