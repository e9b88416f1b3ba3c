// What asv's page would load from elsewhere and that no package of ours brings. Loaded after jQuery and flot.

// asv asks for a short name of a text, to remember that a regression is to be ignored. The text itself will do.
window.md5 = (text) => text;

// Series of bars beside one another, as flot-orderbars does: `bars: {order: i}` and a width in `series.bars.barWidth`.
$.plot.plugins.push({
    init: (plot) => {
        plot.hooks.processDatapoints.push((plot, series, datapoints) => {
            if (!series.bars || !series.bars.show || series.bars.order === undefined) {
                return;
            }
            const orders = plot.getData().map((other) => other.bars && other.bars.order).filter((o) => o !== undefined);
            const middle = (Math.min(...orders) + Math.max(...orders)) / 2;
            const shift = (series.bars.order - middle) * series.bars.barWidth;
            for (let i = 0; i < datapoints.points.length; i += datapoints.pointsize) {
                datapoints.points[i] += shift;
            }
        });
    },
    options: {},
    name: "orderedBars",
    version: "1",
});

// The page's data are in data.js (window.asvFiles), so that it can be opened from a disk: a browser lets no page read
// files beside it.
$.ajaxTransport("json", (options) => {
    const name = decodeURI(options.url.replace(/[?].*/, ""));
    const found = name in window.asvFiles;
    const answer = found ? [200, "OK", { json: window.asvFiles[name] }] : [404, "Not Found"];
    // Later, as from a server: the scripts after this one have to be loaded first.
    const send = (_, done) => setTimeout(() => done(...answer));
    return { send, abort: () => {} };
});
