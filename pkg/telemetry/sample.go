package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// sample is one series at one scrape. The library's own constant metrics copy
// and sort their labels and make two objects of each bucket, which with ten
// thousand triggers is most of a scrape's cost. Here the series of a handle
// share their labels, and a histogram is made in four pieces.
type sample struct {
	desc      *prometheus.Desc
	labels    labels
	counter   *dto.Counter
	gauge     *dto.Gauge
	histogram *dto.Histogram
}

// labels are in the order of their names. Samples share them: nobody may
// change one.
type labels []*dto.LabelPair

func label(name string, value *string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: value}
}

// Desc is prometheus.Metric's.
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write is prometheus.Metric's.
func (s *sample) Write(out *dto.Metric) error {
	out.Label, out.Counter, out.Gauge, out.Histogram = s.labels, s.counter, s.gauge, s.histogram
	return nil
}

func counterSample(desc *prometheus.Desc, l labels, born int64, value float64) *sample {
	return &sample{desc: desc, labels: l, counter: &dto.Counter{
		Value: &value, CreatedTimestamp: timestamppb.New(time.Unix(0, born)),
	}}
}

// gaugeSample is one object.
func gaugeSample(desc *prometheus.Desc, l labels, value float64) *sample {
	s := &struct {
		sample
		gauge dto.Gauge
		value float64
	}{value: value}
	s.gauge.Value = &s.value
	s.sample = sample{desc: desc, labels: l, gauge: &s.gauge}
	return &s.sample
}

// histogramSample takes of each bound how many values are below or at it.
func histogramSample(desc *prometheus.Desc, l labels, born int64, n uint64, sum float64, bounds []float64, below []uint64) *sample {
	buckets, list := make([]dto.Bucket, len(bounds)), make([]*dto.Bucket, len(bounds))
	for i := range buckets {
		buckets[i].UpperBound, buckets[i].CumulativeCount = &bounds[i], &below[i]
		list[i] = &buckets[i]
	}
	return &sample{desc: desc, labels: l, histogram: &dto.Histogram{
		SampleCount: &n, SampleSum: &sum, Bucket: list, CreatedTimestamp: timestamppb.New(time.Unix(0, born)),
	}}
}
