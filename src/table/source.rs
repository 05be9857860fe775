//! A source of rows as a format gives it, whose errors name the file, and which reads files as they were listed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, config::ConfigOptions};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::fault::fault;
use super::frozen::Frozen;
use super::location::show;

/// Files as they were listed, and where.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) store: ObjectStoreUrl,
    pub(super) files: Arc<HashMap<Path, ObjectMeta>>,
}

impl Listed {
    fn freeze(&self, store: Arc<dyn ObjectStore>) -> Frozen {
        Frozen::new(store, Arc::clone(&self.files), self.store.as_str().starts_with("file:"))
    }

    fn name(&self, path: &Path) -> Arc<str> {
        show(&self.store, path).into()
    }
}

/// See the module. All but opening is the inner source's own work.
#[derive(Clone)]
pub(super) struct Source {
    inner: Arc<dyn FileSource>,
    listed: Listed,
}

impl Source {
    pub(super) fn new(
        inner: Arc<dyn FileSource>,
        listed: Listed,
        store: Arc<dyn ObjectStore>,
        cache: Arc<FileMetadataCache>,
    ) -> Self {
        // The readers of Parquet have a store of their own.
        let inner = match inner.downcast_ref::<ParquetSource>() {
            Some(parquet) => {
                let readers = CachedParquetFileReaderFactory::new(Arc::new(listed.freeze(store)), cache);
                Arc::new(parquet.clone().with_parquet_file_reader_factory(Arc::new(readers))) as _
            }
            None => inner,
        };
        Self { inner, listed }
    }

    fn with(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, listed: self.listed.clone() })
    }
}

impl FileSource for Source {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(Arc::new(self.listed.freeze(store)), config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let store = Arc::new(self.listed.freeze(store));
        let inner = self.inner.create_morselizer(Arc::clone(&store) as _, config, partition)?;
        // A reader of Parquet looks after each of its reads; others read a file from one end to the other.
        let verified = (self.inner.file_type() != "parquet").then_some(store);
        Ok(Box::new(Files { inner, listed: self.listed.clone(), verified }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.with(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(format, formatter)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        repartition_file_min_size: usize,
        output_ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        self.inner.repartitioned(target_partitions, repartition_file_min_size, output_ordering, config)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        let updated_node = pushed.updated_node.map(|inner| self.with(inner));
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, properties)?.map(|inner| self.with(inner)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.with(inner)))
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(visit)
    }
}

/// Plans the reading of files, each under its name.
#[derive(Debug)]
struct Files {
    inner: Box<dyn Morselizer>,
    listed: Listed,
    verified: Option<Arc<Frozen>>,
}

/// A file under its name, and whether it is to be looked at again when it has been read.
#[derive(Debug, Clone)]
struct Reading {
    name: Arc<str>,
    verified: Option<(Arc<Frozen>, Path)>,
}

impl Reading {
    fn fault(&self, error: DataFusionError) -> DataFusionError {
        DataFusionError::External(Box::new(fault(&self.name, error)))
    }

    fn stream(self, batches: BoxStream<'static, Result<RecordBatch>>) -> BoxStream<'static, Result<RecordBatch>> {
        let reading = self.clone();
        let batches = batches.map_err(move |error| reading.fault(error));
        let end = stream::once(async move {
            match &self.verified {
                Some((store, path)) => store.verify(path).await.map_err(|error| self.fault(error.into())),
                None => Ok(()),
            }
        });
        let end = end.filter_map(async |verified| verified.err().map(Err));
        batches.chain(end).boxed()
    }
}

impl Morselizer for Files {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let path = file.object_meta.location.clone();
        let name = self.listed.name(&path);
        let reading = Reading { name, verified: self.verified.clone().map(|store| (store, path)) };
        match self.inner.plan_file(file) {
            Ok(inner) => Ok(Box::new(Planner { inner, reading })),
            Err(error) => Err(reading.fault(error)),
        }
    }
}

#[derive(Debug)]
struct Planner {
    inner: Box<dyn MorselPlanner>,
    reading: Reading,
}

impl Planner {
    fn boxed(inner: Box<dyn MorselPlanner>, reading: &Reading) -> Box<dyn MorselPlanner> {
        Box::new(Self { inner, reading: reading.clone() })
    }
}

impl MorselPlanner for Planner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, reading } = *self;
        let Some(mut plan) = inner.plan().map_err(|error| reading.fault(error))? else { return Ok(None) };
        let morsels = plan.take_morsels().into_iter();
        let morsels = morsels.map(|inner| Box::new(Rows { inner, reading: reading.clone() }) as _).collect();
        let planners = plan.take_ready_planners().into_iter();
        let planners = planners.map(|inner| Self::boxed(inner, &reading)).collect();
        let pending = plan.take_pending_planner();
        let plan = MorselPlan::new().with_morsels(morsels).with_planners(planners);
        Ok(Some(match pending {
            None => plan,
            Some(pending) => plan.with_pending_planner(async move {
                match pending.await {
                    Ok(inner) => Ok(Self::boxed(inner, &reading)),
                    Err(error) => Err(reading.fault(error)),
                }
            }),
        }))
    }
}

#[derive(Debug)]
struct Rows {
    inner: Box<dyn Morsel>,
    reading: Reading,
}

impl Morsel for Rows {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, reading } = *self;
        reading.stream(inner.into_stream())
    }
}
