// The OpenTelemetry collector, with its OTLP receiver and an exporter that writes what was received to standard output:
// a line for each request, in OTLP's JSON.
package main

import (
	"context"
	"fmt"
	"log"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"
)

func writer() exporter.Factory {
	var lock sync.Mutex
	write := func(_ context.Context, metrics pmetric.Metrics) error {
		line, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
		if err != nil {
			return err
		}
		lock.Lock()
		defer lock.Unlock()
		_, err = fmt.Println(string(line))
		return err
	}
	create := func(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Metrics, error) {
		return exporterhelper.NewMetrics(ctx, set, config, write)
	}
	config := func() component.Config { return &struct{}{} }
	kind := component.MustNewType("stdout")
	return exporter.NewFactory(kind, config, exporter.WithMetrics(create, component.StabilityLevelStable))
}

func factories() (factories otelcol.Factories, err error) {
	// Of its own it tells nothing.
	factories.Telemetry = telemetry.NewFactory(func() component.Config { return &struct{}{} })
	factories.Receivers, err = otelcol.MakeFactoryMap(otlpreceiver.NewFactory())
	if err == nil {
		factories.Exporters, err = otelcol.MakeFactoryMap(writer())
	}
	return factories, err
}

func main() {
	settings := otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				DefaultScheme:     "yaml",
				ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
			},
		},
	}
	if err := otelcol.NewCommand(settings).Execute(); err != nil {
		log.Fatal(err)
	}
}
