package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"
)

const (
	pprofRoot      = "/debug/pprof/"
	defaultProfile = 30 * time.Second
	maxProfile     = 120 * time.Second
	defaultTrace   = time.Second
	maxTrace       = 30 * time.Second
)

// addProfiles serves the profiles that "go tool pprof" and "go tool trace" read.
//
// They stand on runtime/pprof: net/http/pprof would register its handlers on
// http.DefaultServeMux too, in every program that imports this package. Its
// cmdline is left out, since a command line may hold secrets, and so is symbol:
// the profiles hold the names.
func addProfiles(mux *http.ServeMux, refuse func(pattern, allow string)) {
	add := func(name string, f func(http.ResponseWriter, *http.Request) error) {
		pattern := pprofRoot + name
		if name == "" {
			pattern += "{$}"
		}
		refuse(pattern, "GET, HEAD")
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				w.Header().Del("Content-Disposition")
				writeError(w, err)
			}
		})
	}
	names := []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"}
	for _, name := range names {
		add(name, func(w http.ResponseWriter, r *http.Request) error { return writeProfile(w, r, name) })
	}
	add("profile", func(w http.ResponseWriter, r *http.Request) error {
		return record(w, r, defaultProfile, maxProfile, "profile", pprof.StartCPUProfile, pprof.StopCPUProfile)
	})
	add("trace", func(w http.ResponseWriter, r *http.Request) error {
		return record(w, r, defaultTrace, maxTrace, "trace", trace.Start, trace.Stop)
	})
	add("", func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, name := range names {
			_, _ = fmt.Fprintf(w, "%s %d\n", name, pprof.Lookup(name).Count())
		}
		_, _ = fmt.Fprintf(w, "profile?seconds=%.0f\ntrace?seconds=%.0f\n", defaultProfile.Seconds(), defaultTrace.Seconds())
		return nil
	})
}

// writeProfile answers with a profile of this moment: as text where debug is
// not 0, and after a garbage collection where gc is not 0.
func writeProfile(w http.ResponseWriter, r *http.Request, name string) error {
	query := r.URL.Query()
	debug, err := number(query, "debug", 0, 0, 2)
	if err != nil {
		return err
	}
	gc, err := number(query, "gc", 0, 0, 1)
	if err != nil {
		return err
	}
	if query.Has("seconds") {
		return &StatusError{http.StatusBadRequest, errors.New("seconds: only profile and trace take a time; compare two profiles with \"go tool pprof -diff_base\"")}
	}
	if gc == 1 && name == "heap" {
		runtime.GC()
	}
	if debug == 0 {
		setDownload(w, name)
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	_ = pprof.Lookup(name).WriteTo(w, debug) // the client is gone, or it is not
	return nil
}

// record answers with what is recorded from now on for the seconds asked for,
// or until the client goes. The runtime records one of a kind at a time, for
// the whole process.
func record(w http.ResponseWriter, r *http.Request, normal, longest time.Duration, name string, start func(io.Writer) error, stop func()) error {
	seconds, err := number(r.URL.Query(), "seconds", int(normal.Seconds()), 1, int(longest.Seconds()))
	if err != nil {
		return err
	}
	setDownload(w, name)
	if r.Method == http.MethodHead {
		return nil
	}
	if start(w) != nil {
		return &StatusError{http.StatusConflict, fmt.Errorf("another %s is being recorded: try again when it has ended", name)}
	}
	defer stop()
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	return nil
}

func setDownload(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", "attachment; filename="+name)
}

// number reads a query parameter; normal where it is not given.
func number(query url.Values, name string, normal, least, most int) (int, error) {
	if !query.Has(name) {
		return normal, nil
	}
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < least || n > most {
		return 0, &StatusError{http.StatusBadRequest, fmt.Errorf("%s: want a whole number from %d to %d", name, least, most)}
	}
	return n, nil
}
