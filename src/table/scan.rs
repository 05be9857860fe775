//! Files of one format that are read alike, as a table: the leaf of every plan.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Result, Statistics, internal_err, project_schema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::{expr_applicable_for_cols, filter_partitioned_file};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion_datasource::{TableSchemaBuilder, compute_all_files_statistics};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use tokio::sync::OnceCell;

use super::fault::fault;
use super::location::show;
use super::source::{Listed, Source};

/// A table over a list of files that was made when it was opened.
///
/// A [`ListingTable`](datafusion::datasource::listing::ListingTable) would list again for every query, could not leave out
/// files by our rules, and has no partition that is NULL (<https://github.com/apache/datafusion/issues/18083>).
#[derive(Debug)]
pub(super) struct Scan {
    listed: Listed,
    format: Arc<dyn FileFormat>,
    /// With the values of their partitions.
    files: Vec<PartitionedFile>,
    /// The columns that are read from the files, by name where the format has names.
    file_schema: SchemaRef,
    partitions: Vec<FieldRef>,
    schema: SchemaRef,
    /// The files with their statistics, once they are known.
    known: OnceCell<Vec<PartitionedFile>>,
}

impl Scan {
    pub(super) fn new(
        store: datafusion::execution::object_store::ObjectStoreUrl,
        format: Arc<dyn FileFormat>,
        files: Vec<PartitionedFile>,
        file_schema: SchemaRef,
        partitions: Vec<FieldRef>,
    ) -> Self {
        let known = files.iter().map(|file| (file.object_meta.location.clone(), file.object_meta.clone()));
        let listed = Listed { store, files: Arc::new(known.collect::<HashMap<_, _>>()) };
        let fields: Vec<FieldRef> = file_schema.fields().iter().chain(&partitions).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        Self { listed, format, files, file_schema, partitions, schema, known: OnceCell::new() }
    }

    fn partition_names(&self) -> Vec<&str> {
        self.partitions.iter().map(|field| field.name().as_str()).collect()
    }

    fn prunes(&self, filter: &Expr) -> bool {
        !self.partitions.is_empty() && expr_applicable_for_cols(&self.partition_names(), filter)
    }

    /// The files with what their metadata tells of their values.
    async fn with_statistics(&self, state: &dyn Session, store: &Arc<dyn ObjectStore>) -> Result<Vec<PartitionedFile>> {
        if !state.config().collect_statistics() {
            return Ok(self.files.clone());
        }
        let known = self.known.get_or_try_init(|| async {
            let files = stream::iter(self.files.clone()).map(|file| async {
                let schema = Arc::clone(&self.file_schema);
                let told = self.format.infer_stats_and_ordering(state, store, schema, &file.object_meta).await;
                let told = told.map_err(|error| {
                    let name = show(&self.listed.store, &file.object_meta.location);
                    DataFusionError::External(Box::new(fault(&name, error)))
                })?;
                let statistics = self.widened(told.statistics);
                Ok::<_, DataFusionError>(file.with_statistics(Arc::new(statistics)).with_ordering(told.ordering))
            });
            let side_by_side = state.config_options().execution.meta_fetch_concurrency.get();
            files.boxed().buffered(side_by_side).try_collect().await
        });
        known.await.cloned()
    }

    /// Statistics in the types of the table, where a file has narrower ones.
    fn widened(&self, mut statistics: Statistics) -> Statistics {
        for (column, field) in statistics.column_statistics.iter_mut().zip(self.file_schema.fields()) {
            for value in [&mut column.min_value, &mut column.max_value, &mut column.sum_value] {
                let other = value.get_value().is_some_and(|value| value.data_type() != *field.data_type());
                if other {
                    *value = value.cast_to(field.data_type()).unwrap_or(Precision::Absent);
                }
            }
        }
        statistics
    }
}

#[async_trait]
impl TableProvider for Scan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let exact = |filter: &&Expr| match self.prunes(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(exact).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let store = state.runtime_env().object_store(&self.listed.store)?;
        let mut files = self.with_statistics(state, &store).await?;
        let pruning: Vec<Expr> = filters.iter().filter(|filter| self.prunes(filter)).cloned().collect();
        if !pruning.is_empty() {
            let fields = Schema::new(self.partitions.clone());
            let fields = DFSchema::try_from(fields)?;
            let kept = files.into_iter().map(|file| filter_partitioned_file(file, &pruning, &fields));
            files = kept.filter_map(Result::transpose).collect::<Result<_>>()?;
        }
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let ordering =
            files[0].ordering.clone().filter(|first| files.iter().all(|file| file.ordering.as_ref() == Some(first)));

        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let collect = state.config().collect_statistics();
        let (groups, statistics) = compute_all_files_statistics(groups, Arc::clone(&self.schema), collect, false)?;
        let table_schema = TableSchemaBuilder::new(Arc::clone(&self.file_schema))
            .with_table_partition_cols(self.partitions.clone())
            .build();
        let config = FileScanConfigBuilder::new(self.listed.store.clone(), self.format.file_source(table_schema))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_output_ordering(ordering.into_iter().collect())
            .build();
        let plan = self.format.create_physical_plan(state, config).await?;
        let Some(config) = plan.downcast_ref::<DataSourceExec>().and_then(|scan| {
            let source: &dyn std::any::Any = scan.data_source().as_ref();
            source.downcast_ref::<FileScanConfig>().cloned()
        }) else {
            return internal_err!("the format plans another scan than one of files");
        };
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let source = Source::new(Arc::clone(config.file_source()), self.listed.clone(), store, cache);
        let config = FileScanConfigBuilder::from(config).with_source(Arc::new(source)).build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
