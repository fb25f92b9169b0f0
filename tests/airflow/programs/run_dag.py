"""Runs a DAG in this process with `dag.test()`: run_dag.py FOLDER DAG_ID CONF.

The last line of output is JSON: the run's id, its state, the states of its tasks; those of a task
that is mapped under `task[0]`, `task[1]` and so on.
"""

from __future__ import annotations

import json
import sys

from airflow.dag_processing.dagbag import DagBag

dag = DagBag(dag_folder=sys.argv[1]).dags[sys.argv[2]]
run = dag.test(run_conf=json.loads(sys.argv[3]))
states = {
    it.task_id if it.map_index < 0 else f"{it.task_id}[{it.map_index}]": it.state
    for it in run.get_task_instances()
}
sys.stdout.write(json.dumps([run.run_id, run.state, states]) + "\n")
