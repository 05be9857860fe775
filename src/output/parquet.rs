//! How Parquet files are written.

use datafusion::arrow::array::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use crate::error::Result;

/// How Parquet files are written: compressed with zstd.
pub fn parquet_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
}

/// A small table as the bytes of a Parquet file.
///
/// # Errors
/// Where Parquet has no form for a column.
pub fn parquet_bytes(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(parquet_properties().build()))?;
    writer.write(batch)?;
    writer.close()?;
    Ok(bytes)
}
