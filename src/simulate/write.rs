use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::types::ColumnPath;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Sample, Simulator, Tally};
use crate::error::{Error, Result, invalid};
use crate::events::{Event, EventSink};
use crate::output::{Others, Outputs, Staged, parquet_properties};
use crate::storage::Storage;

/// Chunks of a file of a folder: some 4 million rows.
const CHUNKS_PER_FILE: u64 = 64;
/// Chunks in the making, at most: each holds some 25 MB.
const MAX_CHUNKS_IN_FLIGHT: usize = 8;

/// Where a simulation is written: each a `.parquet` file, or a folder, ending in `/`, of several.
#[derive(Debug, Clone)]
pub struct Destination {
    /// For the biased log.
    pub output: Url,
    /// For a uniform sample of the same population.
    pub uniform: Option<Url>,
}

/// Writes a simulation as Parquet (zstd), a row group a chunk: all files appear, or none does.
///
/// At most `threads` chunks are made at once. `events` hears of progress in elements of the population.
///
/// # Errors
/// Where a destination is neither a `.parquet` file nor a folder, or a folder holds files that would stay between the
/// new ones; where writing fails; [`Error::Interrupted`] once `interrupt` is cancelled.
pub async fn simulate(
    simulator: Simulator,
    to: &Destination,
    storage: &Storage,
    threads: usize,
    interrupt: &CancellationToken,
    events: &dyn EventSink,
) -> Result<(Tally, Vec<Url>)> {
    let simulator = Arc::new(simulator);
    let threads = threads.clamp(1, MAX_CHUNKS_IN_FLIGHT);
    let total = simulator.config().population() + to.uniform.as_ref().map_or(0, |_| simulator.config().uniform_rows());
    Outputs::write(async |outputs| {
        let done = AtomicU64::new(0);
        let run = Run { simulator, storage, outputs, threads, interrupt, events, done, total };
        let tally = run.write(Sample::Biased, &to.output).await?;
        if let Some(uniform) = &to.uniform {
            run.write(Sample::Uniform, uniform).await?;
        }
        Ok(tally)
    })
    .await
}

struct Run<'a> {
    simulator: Arc<Simulator>,
    storage: &'a Storage,
    outputs: Outputs,
    threads: usize,
    interrupt: &'a CancellationToken,
    events: &'a dyn EventSink,
    /// Elements of the population done, of `total`.
    done: AtomicU64,
    total: u64,
}

impl Run<'_> {
    async fn write(&self, sample: Sample, to: &Url) -> Result<Tally> {
        let chunks = self.simulator.chunks(sample);
        if to.path().ends_with(".parquet") {
            return self.write_file(sample, 0..chunks, self.outputs.create(self.storage, to).await?).await;
        }
        if !to.path().ends_with('/') {
            invalid!("cannot write {to}: give a name that ends in .parquet, or in / for a folder of several files");
        }
        let folder = self.outputs.folder(self.storage, to, Others::Refused).await?;
        let mut tally = Tally::default();
        for file in 0..chunks.div_ceil(CHUNKS_PER_FILE) {
            let first = file * CHUNKS_PER_FILE;
            let last = (first + CHUNKS_PER_FILE).min(chunks);
            let object = folder.create(&format!("part-{file:05}.parquet")).await?;
            tally.merge(&self.write_file(sample, first..last, object).await?);
        }
        Ok(tally)
    }

    async fn write_file(&self, sample: Sample, chunks: std::ops::Range<u64>, mut object: Staged) -> Result<Tally> {
        let options = ArrowWriterOptions::new().with_properties(properties());
        let schema = Arc::clone(self.simulator.schema());
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
        let (mut writer, factory) = writer.into_serialized_writer()?;
        let factory = Arc::new(factory);
        let encoded = stream::iter(chunks).map(|index| {
            let (simulator, factory) = (Arc::clone(&self.simulator), Arc::clone(&factory));
            let made = tokio::task::spawn_blocking(move || encode(&simulator, sample, index, &factory));
            async { made.await.map_err(std::io::Error::other)? }
        });
        let mut encoded = encoded.buffered(self.threads);
        let mut tally = Tally::default();
        while let Some((columns, part)) = encoded.try_next().await? {
            if self.interrupt.is_cancelled() {
                return Err(Error::Interrupted);
            }
            append_row_group(&mut writer, columns)?;
            object.append(&std::mem::take(writer.inner_mut())).await?;
            tally.merge(&part);
            let done = self.done.fetch_add(part.population, Relaxed) + part.population;
            let (task, message) = ("simulate".to_owned(), String::new());
            self.events.emit(Event::Progress { task, done, total: Some(self.total), message });
        }
        writer.finish()?;
        object.append(writer.inner()).await?;
        self.outputs.add(object).await?;
        Ok(tally)
    }
}

/// Makes a chunk and encodes it as the columns of a row group; none where the chunk has no row.
fn encode(
    simulator: &Simulator,
    sample: Sample,
    index: u64,
    factory: &ArrowRowGroupWriterFactory,
) -> Result<(Vec<ArrowColumnChunk>, Tally)> {
    let (batch, tally) = simulator.chunk(sample, index)?;
    if batch.num_rows() == 0 {
        return Ok((Vec::new(), tally));
    }
    let mut writers = factory.create_column_writers(index as usize)?.into_iter();
    let mut columns = Vec::with_capacity(writers.len());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        for leaf in compute_leaves(field, array)? {
            let mut writer = writers.next().expect("a writer for each leaf column");
            writer.write(&leaf)?;
            columns.push(writer.close()?);
        }
    }
    Ok((columns, tally))
}

fn append_row_group(writer: &mut SerializedFileWriter<Vec<u8>>, columns: Vec<ArrowColumnChunk>) -> Result<()> {
    if columns.is_empty() {
        return Ok(());
    }
    let mut group = writer.next_row_group()?;
    for column in columns {
        column.append_to_row_group(&mut group)?;
    }
    group.close()?;
    Ok(())
}

fn properties() -> WriterProperties {
    let mut properties = parquet_properties();
    // No two values are alike: a dictionary would be begun and thrown away.
    for column in ["propensity", "prediction", "true_propensity", "true_conversion"] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    let phi = ["phi", "list", "item"].map(str::to_owned).to_vec();
    properties.set_column_dictionary_enabled(ColumnPath::from(phi), false).build()
}
