package deps

import (
	_ "github.com/RoaringBitmap/roaring/v2/roaring64"
	_ "github.com/cloudevents/sdk-go/sql/v2/parser"
	_ "github.com/cloudevents/sdk-go/v2/event"
	_ "github.com/cloudevents/sdk-go/v2/client"
	_ "github.com/fsnotify/fsnotify"
	_ "github.com/google/uuid"
	_ "github.com/kelseyhightower/envconfig"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/sosodev/duration"
	_ "github.com/spf13/cobra"
	_ "go.yaml.in/yaml/v3"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/time/rate"
	_ "knative.dev/eventing/pkg/eventfilter/subscriptionsapi"
	_ "knative.dev/eventing/pkg/eventfilter/attributes"
	_ "github.com/valyala/fasthttp"
)
