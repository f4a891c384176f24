//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSoakFlips edits the config all the time, good and bad, with requests
// under way, and looks at what the process holds. SOAK is how long; make soak
// sets hours, and without it a few seconds show that the test itself works.
func TestSoakFlips(t *testing.T) {
	duration := 4 * time.Second
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	}
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	r := f.start()
	var requests, failures, edits atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if code, _ := r.get("/v1/config"); code != http.StatusOK { //nolint:contextcheck // a request under way is not cut
					failures.Add(1)
				}
				requests.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	load.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			switch n % 5 {
			case 3:
				f.edit("server: {listen: ['127.0.0.1:0'], timeout: {request: soon}}\n")
			case 4:
				f.edit("public: {a: 1, a: 2}\n")
			default:
				f.edit(fmt.Sprintf("server: {listen: ['127.0.0.1:0'], timeout: {request: %dms}}\npublic: {n: %d}\n", 10_000+n, n))
			}
			edits.Add(1)
			time.Sleep(450 * time.Millisecond) // past the quiet time: each edit is a change
		}
	})
	sample := func() map[string]float64 {
		return r.metrics("go_goroutines", "process_open_fds", "process_resident_memory_bytes")
	}
	time.Sleep(duration / 4) // what is allocated once has been
	before := sample()
	load.Wait()
	after := sample()
	t.Logf("%d edits, %d requests, before %v, after %v", edits.Load(), requests.Load(), before, after)
	if failures.Load() > 0 || requests.Load() == 0 || edits.Load() == 0 {
		t.Errorf("%d of %d requests failed, %d edits", failures.Load(), requests.Load(), edits.Load())
	}
	for name, slack := range map[string]float64{"go_goroutines": 15, "process_open_fds": 15, "process_resident_memory_bytes": 64 << 20} {
		if before[name] == 0 || after[name] > before[name]+slack {
			t.Errorf("%s rose from %v to %v", name, before[name], after[name])
		}
	}
	if last := r.status().Last; last.ID < edits.Load()/2 {
		t.Errorf("only %d changes of %d edits were seen", last.ID, edits.Load())
	}
}

// metrics reads some plain metrics of the service.
func (r *running) metrics(names ...string) map[string]float64 {
	r.t.Helper()
	var d net.Dialer
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", r.path(".svc/admin.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://svc/metrics", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	found := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		for _, name := range names {
			if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
				if found[name], err = strconv.ParseFloat(text, 64); err != nil {
					r.t.Fatal(err)
				}
			}
		}
	}
	if lines.Err() != nil || len(found) != len(names) {
		r.t.Fatalf("metrics %v, want %v, %v", found, names, lines.Err())
	}
	return found
}

// TestMetrics: every name that the contract lists is there.
func TestMetrics(t *testing.T) {
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\n")
	r := f.start()
	f.edit("server: {listen: ['127.0.0.1:0']}\npublic: {x: 1}\n")
	r.until("the edit", func() bool { _, body := r.get("/v1/config"); return strings.Contains(body, `"x":1`) })
	got := r.metrics(
		"svc_config_last_reload_successful", "svc_config_last_reload_success_timestamp_seconds",
		`svc_config_revision_info{revision="`+r.status().Revision+`"}`, `svc_config_reloads_total{action="none",result="applied"}`,
		`svc_config_stage_seconds_count{stage="built"}`, `svc_config_source_stale_seconds{source="file"}`,
		`svc_config_rejected_total{reason="decode"}`, `svc_generations{state="serving"}`, `svc_generations{state="probation"}`, "svc_restart_seconds_count", "svc_restarts_failed_total",
		`svc_connections{kind="http1",state="active"}`,
		`http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/v1/config"}`,
	)
	for name, want := range map[string]float64{
		"svc_config_last_reload_successful": 1, `svc_config_rejected_total{reason="decode"}`: 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if n := got[`svc_generations{state="serving"}`] + got[`svc_generations{state="probation"}`]; n != 1 {
		t.Errorf("%v generations are the service", n)
	}
	f.edit("server: {listen: ['127.0.0.1:0'], timeout: {request: soon}}\n")
	r.until("a rejection counted", func() bool {
		got := r.metrics("svc_config_last_reload_successful", `svc_config_rejected_total{reason="decode"}`)
		return got["svc_config_last_reload_successful"] == 0 && got[`svc_config_rejected_total{reason="decode"}`] == 1
	})
}

// TestCountersOverRestarts: what is counted never falls, whichever generation is
// asked, and nothing that was counted is lost.
func TestCountersOverRestarts(t *testing.T) {
	f := newFolder(t, "server: {listen: ['127.0.0.1:0']}\nlog: {access: false}\n")
	r := f.start()
	const name = `http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200",http_route="/v1/config"}`
	r.get("/v1/config")
	var requests atomic.Int64
	requests.Add(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	for range 2 {
		load.Go(func() {
			for ctx.Err() == nil {
				r.get("/v1/config") //nolint:contextcheck // a request under way is not cut
				requests.Add(1)
			}
		})
	}
	var scrapes int
	load.Go(func() {
		for last := 0.0; ctx.Err() == nil; scrapes++ {
			got := r.metrics(name)[name] //nolint:contextcheck // it has its own time
			if got < last {
				t.Errorf("scrape %d: from %v to %v", scrapes, last, got)
			}
			last = got
			time.Sleep(10 * time.Millisecond)
		}
	})
	for range 6 {
		f.svc("restart").want(t, 0, "restarted")
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	load.Wait()
	r.until("the end of all old generations", func() bool { return len(r.status().Generations) == 1 })
	if got := r.metrics(name)[name]; got != float64(requests.Load()) || scrapes < 10 {
		t.Errorf("%v counted of %d requests, %d scrapes", got, requests.Load(), scrapes)
	}
}
