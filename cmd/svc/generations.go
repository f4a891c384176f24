package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotsvc/svc/admin"
	"github.com/hotsvc/svc/server/keeper"
)

// keeperTimeout bounds a question to the keeper.
const keeperTimeout = time.Second

// kept is what the keeper knows, with this generation's own state. Without a
// keeper, or where it does not answer, it is this generation alone.
func (s *service) kept() keeper.Table {
	ctx, cancel := context.WithTimeout(context.Background(), keeperTimeout)
	defer cancel()
	table, err := s.worker.Table(ctx)
	if err != nil {
		g := keeper.Generation{
			Number: s.worker.Generation(), PID: os.Getpid(), State: keeper.StateServing, Since: s.since, Version: version, Holds: s.addresses,
		}
		if s.server.Draining() {
			g.State = keeper.StateDraining
		}
		table = keeper.Table{KeeperPID: s.worker.KeeperPID(), Generations: []keeper.Generation{g}}
	}
	for i := range table.Generations {
		if table.Generations[i].PID == os.Getpid() {
			table.Generations[i].Connections = s.connections()
		}
	}
	return table
}

// restartResult is the answer of svc restart.
type restartResult struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
}

// restart is a graceful restart with the content in force.
func (s *service) restart(ctx context.Context) (any, error) {
	if !s.worker.Kept() {
		return nil, &admin.StatusError{Status: http.StatusConflict, Err: errors.New("the service runs without a keeper (--no-keeper): stop it and start it again")}
	}
	if err := s.worker.RestartNow(ctx, "admin API"); err != nil {
		return nil, &admin.StatusError{Status: http.StatusServiceUnavailable, Err: err}
	}
	return restartResult{Outcome: "restarted"}, nil
}

// generationMetrics tells the metrics of generations and restarts.
type generationMetrics struct {
	service                       *service
	generations, restarts, failed *prometheus.Desc
}

func newGenerationMetrics(s *service) *generationMetrics {
	return &generationMetrics{
		s,
		prometheus.NewDesc("svc_generations", "Worker processes by state.", []string{"state"}, nil),
		prometheus.NewDesc("svc_restart_seconds", "Time from the trigger of a restart until the new generation accepts.", nil, nil),
		prometheus.NewDesc("svc_restarts_failed_total", "Restarts that did not succeed.", nil, nil),
	}
}

// Describe names the metrics.
func (g *generationMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.generations
	ch <- g.restarts
	ch <- g.failed
}

// Collect asks the keeper once.
func (g *generationMetrics) Collect(ch chan<- prometheus.Metric) {
	table := g.service.kept()
	count := map[keeper.State]float64{}
	for _, generation := range table.Generations {
		count[generation.State]++
	}
	for _, state := range []keeper.State{
		keeper.StateStarting, keeper.StatePrepared, keeper.StateProbation, keeper.StateServing, keeper.StateDraining,
	} {
		ch <- prometheus.MustNewConstMetric(g.generations, prometheus.GaugeValue, count[state], string(state))
	}
	ch <- prometheus.MustNewConstSummary(g.restarts, table.Restarts, table.RestartSeconds, nil)
	ch <- prometheus.MustNewConstMetric(g.failed, prometheus.CounterValue, float64(table.Failed))
}
