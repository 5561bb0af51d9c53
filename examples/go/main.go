// SPDX-License-Identifier: MIT

// A small HTTP service with one dependency.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/google/uuid"
)

func setting(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func main() {
	address := setting("HOST", "127.0.0.1") + ":" + setting("PORT", "8080")
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			id := uuid.New()
			log.Printf("%s %s %s", id, r.Method, r.URL.Path)
			fmt.Fprintf(w, "hello from go (request %s)\n", id)
		})}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		<-ended.Done()
		server.Shutdown(context.Background())
	}()
	log.Printf("listening on http://%s/", address)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}
