"""What is asked of a page with ComfyUI's own front end, in JavaScript: for Playwright's `page.evaluate`."""

READY = "window.app?.extensionManager?.workflow?.activeWorkflow?.isLoaded"
OPEN_WORKFLOW = "([workflow, name]) => app.loadGraphData(workflow, true, true, name)"
VUE_NODES = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
# The whole workflow in view, clear of the side bar and the tabs.
FIT = """() => {
    const edges = app.graph.groups.map(group => [group.pos[0] + group.size[0], group.pos[1] + group.size[1]]);
    if (!edges.length) for (const { pos, size } of app.graph.nodes) edges.push([pos[0] + size[0], pos[1] + size[1]]);
    const right = Math.max(...edges.map(edge => edge[0])), bottom = Math.max(...edges.map(edge => edge[1]));
    const scale = Math.min((innerWidth - 160) / right, (innerHeight - 180) / bottom, 1);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [100 / scale, 120 / scale];
    app.graph.setDirtyCanvas(true, true);
}"""
SCREEN = {"width": 2400, "height": 1200}  # wide enough that the front end still draws the text of the nodes

# Before a page is opened that waits for a file: browsers remember 250 by default, and the front end loads more.
REMEMBER_FILES = "performance.setResourceTimingBufferSize(10_000)"
# The search of nodes counts how often people use each: the front end loads that a second after its start, and not again.
SEARCH_READY = "performance.getEntriesByType('resource').some(entry => entry.name.includes('sorted-custom'))"
