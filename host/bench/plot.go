package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The plot's measures, in pixels.
const (
	plotWidth, plotHeight = 1000, 360
	plotLeft, plotRight   = 70, 30
	plotTop, plotBottom   = 56, 48
)

// isolationPlot draws both rates over time, with the phases of B behind them.
func isolationPlot(phases []*phase) []byte {
	end := phases[len(phases)-1].to
	top := 0.0
	for _, p := range phases {
		top = max(top, series(p.a).max())
	}
	top = math.Ceil(1.5*top/10_000) * 10_000 // B catching up may go higher: it is cut there

	x := func(at time.Duration) float64 {
		return plotLeft + float64(plotWidth-plotLeft-plotRight)*min(1, float64(at)/float64(end))
	}
	y := func(rate float64) float64 {
		return plotTop + float64(plotHeight-plotTop-plotBottom)*(1-min(rate, top)/top)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		plotWidth, plotHeight, plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, plotHeight)
	for i, p := range phases {
		fill := "#f2f6f2"
		if p.mode != accepting {
			fill = "#fbeeea"
		}
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n",
			x(p.from), plotTop, x(p.to)-x(p.from), plotHeight-plotTop-plotBottom, fill)
		if i > 0 {
			fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#b0b0b0"/>`+"\n", x(p.from), plotTop, x(p.from), plotHeight-plotBottom)
		}
		label, _, _ := strings.Cut(p.name, " (")
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#404040">B %s</text>`+"\n", (x(p.from)+x(p.to))/2, plotTop-8, label)
	}
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		v := share * top
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#d8d8d8"/>`+"\n", plotLeft, y(v), plotWidth-plotRight, y(v))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end" fill="#404040">%s</text>`+"\n", plotLeft-8, y(v)+4, number(v))
	}
	step := max(time.Second, (end / 12).Round(time.Second))
	for at := time.Duration(0); at <= end; at += step {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#404040">%.0f s</text>`+"\n", x(at), plotHeight-plotBottom+18, at.Seconds())
	}
	for _, curve := range []struct {
		name, colour string
		of           func(*phase) []float64
		legend       int
	}{
		{"pusher B", "#d07a3a", func(p *phase) []float64 { return p.b }, 520},
		{"pusher A", "#1f5fa8", func(p *phase) []float64 { return p.a }, 400},
	} {
		var points []string
		for _, p := range phases {
			values := curve.of(p)
			for i, v := range values {
				at := p.from + time.Duration(float64(p.to-p.from)*(float64(i)+0.5)/float64(len(values)))
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(at), y(v)))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"/>`+"\n", strings.Join(points, " "), curve.colour)
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="3"/>`+"\n", curve.legend, 20, curve.legend+24, 20, curve.colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#202020">%s</text>`+"\n", curve.legend+32, 24, curve.name)
	}
	fmt.Fprintf(&b, `<text x="%d" y="24" fill="#202020">rows per second, in steps of %s</text>`+"\n", plotLeft, bin)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
