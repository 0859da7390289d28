# Costs. Needs the benchmark files of all jobs, which the report comes after. Gives cost.tsv and run.html, which are no
# part of the content.


use rule run_step as collect_costs with:
    input:
        after=in_study(paths.REPORT),
    output:
        cost=in_study(paths.COST),
    log:
        f"logs/studies/{STUDY.name}/collect_costs.log",
    params:
        **step("evaluation.costs.collect"),
        folders=[f"benchmarks/{name}" for name in ("drawn", *STUDY.datasets, f"studies/{STUDY.name}")],
        rule_order=[name for name, rule in get_rules().items() if rule.benchmark],
    message:
        "Collecting time and memory of every job"


use rule run_step as draw_cost with:
    input:
        cost=in_study(paths.COST),
    output:
        figure=report(in_study(paths.COST_FIGURE), **in_report("cost", "Cost")),
    log:
        f"logs/studies/{STUDY.name}/draw_cost.log",
    params:
        **step("figures.figures.draw_cost"),
    message:
        "Drawing time and memory"


use rule run_step as cost_methods with:
    input:
        scores=in_study(paths.SCORES),
        after=in_study(paths.REPORT),
    output:
        table=in_study(f"{paths.METHOD_COSTS}.csv"),
    log:
        f"logs/studies/{STUDY.name}/cost_methods/{{split}}.log",
    params:
        **step("evaluation.costs.of_methods"),
        methods=plain({method.name: runs.parts(STUDY, method) for method in STUDY.methods}),
        datasets=plain(runs.parts_of_datasets(STUDY)),
        split="{split}",
        seeds=list(STUDY.seeds),
        gpus=STUDY.gpus,
        extraction_rule="extract_features" if STUDY.pixels == "cache" else "stream_features",
    message:
        "Collecting what each method costs, split {wildcards.split}"


use rule run_step as draw_method_costs with:
    input:
        table=in_study(f"{paths.METHOD_COSTS}.csv"),
    output:
        figure=report(in_study(f"{paths.METHOD_COSTS}.svg"), **in_report("method_costs", "Cost", "split")),
    log:
        f"logs/studies/{STUDY.name}/draw_method_costs/{{split}}.log",
    params:
        **step("figures.method_cost_figure.draw_method_costs"),
    message:
        "Drawing what each method costs, split {wildcards.split}"


use rule run_step as write_run_page with:
    input:
        files=[entry.path for entry in CONTENTS.costs()],
        templates=TEMPLATES,
    output:
        page=report(in_study(paths.RUN_PAGE), **in_report("run", "Report")),
    log:
        f"logs/studies/{STUDY.name}/write_run_page.log",
    params:
        **step("report.run_page.write_run_page"),
        entries=plain(CONTENTS.costs()),
        study=STUDY.name,
        code_version=VERSION,
    message:
        "Writing what the run cost"
